//! Where a machine says how its first boot goes.

use crate::secret::Secret;

/// Where a machine reports how its first boot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// An address that takes `POST`s, in visible ASCII without quotes and backslashes. That it is a safe one is for whoever
    /// reads the settings to see.
    pub url: String,
    /// What proves that a report comes from this boot: letters, digits, `.`, `-` and `_`.
    pub token: Secret,
}

impl Report {
    /// What `curl --config` reads, so that the token stands in no command line.
    pub(super) fn curl_config(&self) -> Option<String> {
        let token = self.token.expose();
        let is_token = (1..=1024).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        let is_url =
            self.url.len() <= 1024 && self.url.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte));
        (is_token && is_url).then(|| format!("url = \"{}\"\nheader = \"Authorization: Bearer {token}\"\n", self.url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_in_a_file_of_its_own() {
        let report = |token: &str| Report { url: "https://app.example/boot".into(), token: Secret::new(token) };
        let config = "url = \"https://app.example/boot\"\nheader = \"Authorization: Bearer a.b-c_1\"\n";
        assert_eq!(report("a.b-c_1").curl_config().as_deref(), Some(config));
        for bad in ["", "a b", "a\"b", "a\nb"] {
            assert_eq!(report(bad).curl_config(), None, "{bad:?}");
        }
        for bad in ["https://app.example/\"", "https://app.example/\nurl", "https://app.example/\\"] {
            let report = Report { url: bad.into(), ..report("a") };
            assert_eq!(report.curl_config(), None, "{bad:?}");
        }
    }
}
