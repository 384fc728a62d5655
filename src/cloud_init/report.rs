//! Where a machine says how its first boot goes, and by which token it is known.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::CloudInitError;
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
        let config = || format!("url = \"{}\"\nheader = \"Authorization: Bearer {token}\"\n", self.url);
        (is_token && is_report_url(&self.url)).then(config)
    }
}

/// Whether an address can stand in a file that `curl --config` reads, and means one address to curl: in braces and brackets it
/// sees several.
pub fn is_report_url(text: &str) -> bool {
    (1..=1024).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !br#""\{}[]#"#.contains(&byte))
}

/// Where all machines report, and what their tokens are made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reporting {
    /// See [`Report::url`].
    pub url: String,
    /// Shared with whoever verifies the tokens, and never in a machine's hands. After `whsec_` it is base64, as in the
    /// callbacks' secret; any other text stands for its bytes.
    pub secret: Secret,
}

/// Whose token it is. Nothing in it is secret.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bearer<'a> {
    /// The job.
    pub job: &'a str,
    /// The server's name.
    pub server: &'a str,
    /// The attempt that makes the server.
    pub attempt: &'a str,
    /// When the token ends, in the cloud's unix time.
    #[serde(rename = "exp")]
    pub expires: i64,
}

/// What every token begins with.
const VERSION: &str = "pvb1";
/// A key below 16 bytes can be guessed.
const SHORTEST_SECRET: usize = 16;
/// Reads as `atob` does, which the receiver uses: padding may be missing, and bits that are of no use may be set.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Reporting {
    /// What one machine is given. Its token holds all that the receiver has to know of it, so the receiver keeps nothing:
    /// `pvb1.<payload>.<HMAC-SHA256 of all before>`, both parts in base64url.
    pub fn for_machine(&self, bearer: &Bearer<'_>) -> Result<Report, CloudInitError> {
        let payload = serde_json::to_vec(bearer).map_err(|_| CloudInitError::Unwritable)?;
        let signed = format!("{VERSION}.{}", URL_SAFE_NO_PAD.encode(payload));
        let key = key(&self.secret).ok_or(CloudInitError::Report)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| CloudInitError::Report)?;
        mac.update(signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        Ok(Report { url: self.url.clone(), token: Secret::new(token) })
    }
}

/// Whether tokens can be made with a secret.
pub fn is_report_secret(secret: &Secret) -> bool {
    key(secret).is_some()
}

/// The key's bytes.
fn key(secret: &Secret) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let text = secret.expose();
    let key = match text.strip_prefix("whsec_") {
        Some(encoded) => BASE64.decode(encoded).ok()?,
        None => text.as_bytes().to_vec(),
    };
    (key.len() >= SHORTEST_SECRET).then_some(key.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEARER: Bearer<'_> =
        Bearer { job: "job-1", server: "agent-a-1", attempt: "00ff00ff00ff00ff", expires: 1_795_428_960 };

    fn token(secret: &str) -> String {
        let reporting = Reporting { url: "https://app.example/boot".into(), secret: Secret::new(secret) };
        reporting.for_machine(&BEARER).unwrap().token.expose().to_owned()
    }

    #[test]
    fn the_token_stands_in_a_file_of_its_own() {
        let report = |token: &str| Report { url: "https://app.example/boot".into(), token: Secret::new(token) };
        let config = "url = \"https://app.example/boot\"\nheader = \"Authorization: Bearer a.b-c_1\"\n";
        assert_eq!(report("a.b-c_1").curl_config().as_deref(), Some(config));
        for bad in ["", "a b", "a\"b", "a\nb"] {
            assert_eq!(report(bad).curl_config(), None, "{bad:?}");
        }
        for bad in ["\"", "\nurl", "\\", "{a,b}", "[1-9]", "#part", "\u{e9}"] {
            let report = Report { url: format!("https://app.example/{bad}"), ..report("a") };
            assert_eq!(report.curl_config(), None, "{bad:?}");
        }
        assert!(is_report_url(&"x".repeat(1024)) && !is_report_url(&"x".repeat(1025)) && !is_report_url(""));
    }

    /// `__test__/boot-report.test.js` makes the same tokens with `node:crypto`.
    #[test]
    fn a_token_is_what_another_hand_makes_of_the_same_secret() {
        let payload = concat!(
            "eyJqb2IiOiJqb2ItMSIsInNlcnZlciI6ImFnZW50LWEtMSIsImF0dGVtcHQiOiIwMGZmMDBmZjAwZmYwMGZmIiwi",
            "ZXhwIjoxNzk1NDI4OTYwfQ"
        );
        let plain = "eEAVby5wBJBRloRNz6iA0mEulK6WkKLIBQ2l3i5g09E";
        assert_eq!(token("the-plain-secret-of-an-app"), format!("pvb1.{payload}.{plain}"));
        let encoded = "rZIwuT2ABC5HWmkHHA7bqgeMomb449mj2CX9eJdQPMA";
        assert_eq!(token("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), format!("pvb1.{payload}.{encoded}"));
    }

    #[test]
    fn a_secret_that_can_be_guessed_or_read_in_two_ways_is_none() {
        for (secret, is_one) in [
            ("", false),
            ("fifteen-letters", false),
            ("sixteen-letters!", true),
            ("whsec_", false),
            ("whsec_AAAAAAAAAAAAAAAAAAAA", false),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAA", true),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("whsec_AAAAAAAAAAAAAAAAAAAAAB==", true),
            ("whsec_AAAAAAAAAAAAAAAAAAAA-_==", false),
            ("whsec_AAAA AAAAAAAAAAAAAAAAAA==", false),
        ] {
            assert_eq!(is_report_secret(&Secret::new(secret)), is_one, "{secret:?}");
        }
    }
}
