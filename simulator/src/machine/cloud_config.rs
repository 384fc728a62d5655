//! A `#cloud-config` document: what cloud-init makes of the parts that a join needs (`facts/tailscale-and-first-boot.md`
//! B1 and B2). The rules are those of 22.4.2.
//!
//! cloud-init forgives much, a section at a time: what breaks ends its section alone, and the boot goes on. So one bad
//! entry of `write_files` costs the entries behind it, and one bad item of `runcmd` all of them. Only YAML that cannot be
//! read costs the whole document.

mod write_files;

use serde_json::{Map, Value};
use serde_saphyr::options;

use super::system::System;

/// A document that was read, stage by stage.
pub(super) struct Document(Map<String, Value>);

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // U+0085 is a line end to YAML; the other control characters are an error.
        let forbidden = |letter: char| matches!(letter, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}');
        if text.contains(forbidden) {
            return Err("a control character makes the whole document invalid YAML".to_owned());
        }
        // YAML 1.1, as PyYAML reads it: of keys that stand twice the last counts, 0700 is octal, `yes` is a truth value.
        let options = options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            legacy_octal_numbers: true,
            strict_booleans: false,
        };
        match serde_saphyr::from_str_with_options(text, options) {
            Ok(Value::Object(document)) => Ok(Self(document)),
            Ok(Value::Null) => Ok(Self(Map::new())),
            Ok(_) => Err("the document is no mapping".to_owned()),
            Err(_) => Err("the document is no valid YAML".to_owned()),
        }
    }

    /// The host name; until then the machine has its server's. `hostname` is taken as it is, since the
    /// vendor's data give the full name (`hetzner/metadata.rs`); else a full name gives its first label.
    pub(super) fn name(&self, system: &mut System) {
        let text = |key: &str| self.0.get(key).and_then(Value::as_str).filter(|name| !name.is_empty());
        if is_true(self.0.get("preserve_hostname")) {
            return;
        }
        if let Some(fqdn) = text("fqdn").filter(|_| is_true(self.0.get("prefer_fqdn_over_hostname"))) {
            fqdn.clone_into(&mut system.hostname);
        } else if let Some(hostname) = text("hostname") {
            hostname.clone_into(&mut system.hostname);
        } else if let Some(label) = text("fqdn").and_then(first_label) {
            label.clone_into(&mut system.hostname);
        }
    }

    /// The script that runs before any file is written.
    pub(super) fn bootcmd(&self, system: &mut System) -> Option<String> {
        self.script(system, "bootcmd")
    }

    /// Puts the files onto the machine. Those that are put off are written in the last stage, still before `runcmd`.
    pub(super) fn write_files(&self, system: &mut System) {
        for late in [false, true] {
            if let Err(why) = write_files::write(system, self.0.get("write_files"), late, &self.0) {
                system.note(&format!("write_files ends: {why}"));
            }
        }
    }

    /// What takes time and decides nothing here.
    pub(super) fn note_the_rest(&self, system: &mut System) {
        for key in ["users", "groups", "package_update", "package_upgrade", "packages"] {
            if self.0.contains_key(key) {
                system.note(&format!("{key} is not followed here"));
            }
        }
    }

    /// The script that `runcmd` becomes, an item each.
    pub(super) fn runcmd(&self, system: &mut System) -> Vec<String> {
        self.lines(system, "runcmd").unwrap_or_default()
    }

    fn script(&self, system: &mut System, key: &str) -> Option<String> {
        self.lines(system, key).map(|lines| lines.join("\n"))
    }

    fn lines(&self, system: &mut System, key: &str) -> Option<Vec<String>> {
        match lines(self.0.get(key)?) {
            Ok(lines) => Some(lines),
            Err(why) => {
                system.note(&format!("{key}: {why}, so nothing of it is run"));
                None
            }
        }
    }
}

/// The part of a full name that a machine takes for its own.
pub(super) fn first_label(name: &str) -> Option<&str> {
    name.split('.').next().filter(|label| !label.is_empty())
}

/// The script that a list of commands becomes: lists are words that no shell touches, texts are lines of it.
fn lines(commands: &Value) -> Result<Vec<String>, &'static str> {
    let Value::Array(items) = commands else { return Err("it is no list") };
    let line = |item: &Value| match item {
        Value::String(line) => Ok(line.clone()),
        Value::Array(words) => {
            let quote = |word: &Value| format!("'{}'", as_python_writes(word).replace('\'', r"'\''"));
            Ok(words.iter().map(quote).collect::<Vec<_>>().join(" "))
        }
        Value::Null => Ok(String::new()),
        _ => Err("an item is neither text nor list"),
    };
    items.iter().map(line).collect()
}

/// What Python's `str` makes of a value.
fn as_python_writes(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What cloud-init takes for yes, in whatever way it is written.
fn is_true(value: Option<&Value>) -> bool {
    let text = value.map(as_python_writes).unwrap_or_default();
    matches!(text.to_lowercase().trim(), "true" | "1" | "on" | "yes")
}
