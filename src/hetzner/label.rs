//! Labels and selectors (`facts/hetzner.md` 1.2).

/// Whether a text can be the value of a label and at the same time a name: 1 to 63 characters, letters, digits, `-`, `_`
/// and `.`, alphanumeric at both ends.
pub fn is_label_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= 63
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// The selector for one label with one value. Both must be valid, since selectors know no quoting.
pub fn selector(key: &str, value: &str) -> String {
    format!("{key}=={value}")
}

#[cfg(test)]
mod tests {
    use super::is_label_value;

    #[test]
    fn label_values() {
        let longest = "a".repeat(63);
        for good in ["a", "A1", "job-1", "a_b.c", "550e8400-e29b-41d4-a716-446655440000", longest.as_str()] {
            assert!(is_label_value(good), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", "a-", ".a", "a b", "a,b", "a=b", "é", "a\n", "$(id)", too_long.as_str()] {
            assert!(!is_label_value(bad), "{bad}");
        }
    }
}
