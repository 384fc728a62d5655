//! The cleaner of foreign text (Y05).

use proptest::prelude::*;
use provision_vm::transport::clean;

use super::{cases, complaint_about, hostile_text};

const SECRET: &str = "k1CNTRL-SECRETsecretSECRET";

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn y05_clean_text_is_short_harmless_and_stays_as_it_is(text in hostile_text(), times in 1_usize..30) {
        let text = text.repeat(times);
        let cleaned = clean(&text);
        prop_assert_eq!(complaint_about(&cleaned), None);
        prop_assert!(cleaned.chars().count() <= 201, "{} characters", cleaned.chars().count());
        prop_assert_eq!(cleaned.trim(), &cleaned);
        prop_assert_eq!(clean(&cleaned), cleaned, "cleaning clean text changes nothing");
    }

    #[test]
    fn y05_no_key_is_left_wherever_it_stands(
        before in hostile_text(),
        kind in proptest::sample::select(["auth", "api", "client", "webhook", "scim", "new"].as_slice()),
        after in hostile_text(),
    ) {
        let cleaned = clean(&format!("{before}tskey-{kind}-{SECRET}{after}"));
        prop_assert!(!cleaned.contains("SECRET"), "{cleaned}");
        for (at, found) in cleaned.match_indices("tskey-") {
            let rest = &cleaned[at + found.len()..];
            // The limit may fall into the mark.
            prop_assert!(["***", "**…", "*…", "…"].iter().any(|mark| rest.starts_with(mark)), "{cleaned}");
        }
    }

    #[test]
    fn y05_plain_words_stay(words in proptest::collection::vec("[a-zA-Z0-9é.,()_-]{1,9}", 1..20)) {
        let text = words.join(" ");
        prop_assert_eq!(clean(&text), text);
    }
}
