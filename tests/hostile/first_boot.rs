//! The first-boot document (M20, Y12).

use proptest::prelude::*;
use provision_vm::cloud_init::{
    Additions, CloudInitError, Command, File, FirstBoot, LARGEST, Mode, Owner, Package, is_path, render,
};
use provision_vm::secret::Secret;
use serde_json::Value;

use super::{cases, hostile_text};

/// Words that YAML takes for something else than text where they stand alone.
const WORDS: [&str; 24] = [
    "null",
    "true",
    "no",
    "on",
    "off",
    "yes",
    "y",
    "n",
    "0x1f",
    "0o17",
    "017",
    "1e3",
    "-1",
    "1-1",
    "2026-11-24",
    "NaN",
    "inf",
    "nan",
    "0b11",
    "1_000",
    "---",
    "a--b",
    "-",
    "_",
];

fn word(alphabet: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        4 => alphabet,
        1 => proptest::sample::select(WORDS.as_slice()).prop_map(str::to_owned),
        1 => hostile_text(),
    ]
}

fn document(key: &str, hostname: &str, installs: bool) -> Result<String, CloudInitError> {
    let (key, package) = (Secret::new(key), Package::default());
    let additions = &Additions::default();
    let mode = if installs { Mode::Install(&package) } else { Mode::EnrollOnly };
    render(&FirstBoot { auth_key: &key, hostname, mode, report: None, additions }).map(|text| text.expose().to_owned())
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn y12_every_reader_sees_the_same_document_and_nothing_but_the_two_words_changes(
        key in word("[A-Za-z0-9_-]{1,90}"),
        hostname in word("[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"),
        installs in any::<bool>(),
    ) {
        let Ok(text) = document(&key, &hostname, installs) else {
            let plain = |text: &str, more: &str| {
                !text.is_empty() && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
            };
            let fits = plain(&hostname, "-") && hostname.len() <= 63 && hostname.trim_matches('-') == hostname;
            prop_assert!(!fits || !plain(&key, "-_"), "{key:?} and {hostname:?} are refused");
            return Ok(());
        };
        prop_assert!(text.len() <= LARGEST);
        let json: Value = serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap();
        let one: Value = serde_saphyr::from_str(&text).unwrap();
        let other: Value = serde_norway::from_str(&text).unwrap();
        prop_assert_eq!(&one, &json);
        prop_assert_eq!(&other, &json);
        // The two words, and where they stand.
        let template = document("KEYKEYKEYKEY", "HOSTHOSTHOST", installs).unwrap();
        let places = |word: &str| template.matches(word).count();
        prop_assert_eq!((places("KEYKEYKEYKEY"), places("HOSTHOSTHOST")), (1, 2));
        let filled = template.replace("KEYKEYKEYKEY", "\0").replace("HOSTHOSTHOST", &hostname).replace('\0', &key);
        prop_assert_eq!(text, filled);
    }

    #[test]
    fn y12_a_machine_joins_with_exactly_that_key_and_name(
        key in "tskey-auth-[A-Za-z0-9]{1,20}-[A-Za-z0-9_-]{1,60}",
        hostname in "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
        installs in any::<bool>(),
    ) {
        let text = document(&key, &hostname, installs).unwrap();
        let boot = simulator::first_boot(Some(&text), "another-name");
        let join = boot.join.map_err(|why| TestCaseError::fail(format!("{why}: {:?}", boot.log)))?;
        prop_assert_eq!((join.auth_key, join.hostname, join.installs), (key, hostname, installs));
    }
}

/// What a caller may add, as hostile as it can be.
fn additions() -> impl Strategy<Value = Additions> {
    let path = "/[a-zA-Z0-9 $;'\"&|`(){}<>*?#~-]{1,20}".prop_filter("a path", |path| is_path(path));
    let owner = proptest::sample::select(vec![Owner::default(), Owner { user: "app".into(), group: "adm".into() }]);
    let file = (path, hostile_text(), owner).prop_map(|(path, content, owner)| File {
        path,
        content: Secret::new(content),
        permissions: "0640".into(),
        owner,
    });
    let word = || hostile_text().prop_map(|text| text.replace('\0', ""));
    let command =
        prop_oneof![word().prop_map(Command::Text), proptest::collection::vec(word(), 1..4).prop_map(Command::Words),];
    let lists = (proptest::collection::vec(file, 0..4), proptest::collection::vec(command, 0..4));
    (lists, any::<bool>(), any::<bool>()).prop_map(|((files, commands), before_join, hardening)| Additions {
        files,
        commands,
        before_join,
        hardening,
        ..Additions::default()
    })
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn y12_whatever_is_added_every_reader_sees_it_and_the_machine_joins(additions in additions()) {
        let (key, package) = (Secret::new("tskey-auth-k1-x"), Package::default());
        let mode = Mode::Install(&package);
        let boot = FirstBoot { auth_key: &key, hostname: "agent-a-1", mode, report: None, additions: &additions };
        let text = render(&boot).unwrap().expose().to_owned();
        let json: Value = serde_json::from_str(text.strip_prefix("#cloud-config\n").unwrap()).unwrap();
        prop_assert_eq!(&serde_saphyr::from_str::<Value>(&text).unwrap(), &json);
        prop_assert_eq!(&serde_norway::from_str::<Value>(&text).unwrap(), &json);
        for (at, file) in additions.files.iter().enumerate() {
            prop_assert_eq!(&json["write_files"][at + 2]["content"], file.content.expose());
        }
        let texts = additions.commands.iter().map(|command| match command {
            Command::Text(text) => text,
            Command::Words(words) => words.last().unwrap(),
        });
        let run = json["runcmd"].as_array().unwrap();
        for text in texts {
            prop_assert!(run.iter().any(|item| item.as_array().unwrap().last().unwrap() == text), "{text:?}");
        }
        let boot = simulator::first_boot(Some(&text), "another-name");
        // Before the join a command may be one that a reader of scripts cannot follow; behind it nothing can matter.
        let joins = boot.join.map(|join| join.hostname);
        prop_assert!(additions.before_join || joins.as_deref() == Ok("agent-a-1"), "{joins:?} {:?}", boot.log);
    }
}

#[test]
fn m20_a_document_that_is_too_large_is_refused() {
    let base = document("k", "a", true).unwrap().len();
    assert!(document(&"k".repeat(LARGEST - base + 1), "a", true).is_ok());
    let refused = document(&"k".repeat(LARGEST - base + 2), "a", true).unwrap_err();
    assert_eq!(refused, CloudInitError::TooLarge { size: LARGEST + 1, limit: LARGEST });
}
