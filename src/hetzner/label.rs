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

/// Whether a text can be the key of a label: a name as that of a value, with a prefix that is a DNS name before a slash or
/// without. The prefix `hetzner.cloud` is Hetzner's own.
pub fn is_label_key(text: &str) -> bool {
    let is_dns = |prefix: &str| {
        let is_part =
            |part: &str| is_label_value(part) && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        prefix.len() <= 253 && prefix.split('.').all(is_part)
    };
    match text.split_once('/') {
        None => is_label_value(text),
        Some((prefix, name)) => is_dns(prefix) && prefix != "hetzner.cloud" && is_label_value(name),
    }
}

/// The selector for one label with one value. Both must be valid, since selectors know no quoting.
pub fn selector(key: &str, value: &str) -> String {
    format!("{key}=={value}")
}

/// The selector for one label with any of several values, which must be valid as well.
pub fn selector_of(key: &str, values: &[String]) -> String {
    match values {
        [value] => selector(key, value),
        values => format!("{key} in ({})", values.join(",")),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_label_key, is_label_value};

    #[test]
    fn label_keys() {
        for good in ["a", "team", "example.com/team", "a_b.c", "x-y.z/A.b"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "hetzner.cloud/x", "a b", "ex_ample.com/a", "-a/b", "a/-b", "a=b"] {
            assert!(!is_label_key(bad), "{bad}");
        }
    }

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
