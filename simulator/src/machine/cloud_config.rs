//! A `#cloud-config` document: what cloud-init makes of the parts that a join needs (`facts/tailscale-and-first-boot.md`
//! B1 and B2).
//!
//! cloud-init forgives much: what does not fit is logged and left out, and the boot goes on. Only YAML that cannot be
//! read costs the whole document, and one bad item costs all of `runcmd`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use serde_saphyr::options;

use super::system::System;
use super::user_data::gunzip;

/// Reads a document, puts its files onto the machine, and returns the lines of the script that its `runcmd` becomes, an item
/// each.
pub(super) fn apply(system: &mut System, text: &str) -> Result<Vec<String>, String> {
    let document = parse(text)?;
    name(system, &document);
    match document.get("write_files") {
        None | Some(Value::Null) => {}
        Some(Value::Array(files)) => {
            // Those that are put off are written in the last stage, still before runcmd.
            let (late, early): (Vec<&Value>, Vec<&Value>) = files.iter().partition(|file| file["defer"] == true);
            for file in early.into_iter().chain(late) {
                if let Err(why) = write(system, file) {
                    system.note(&format!("write_files: {why}"));
                }
            }
        }
        Some(_) => system.note("write_files is no list and is left out"),
    }
    if document.contains_key("bootcmd") {
        system.note("bootcmd is not read here");
    }
    lines(document.get("runcmd"))
}

fn parse(text: &str) -> Result<Map<String, Value>, String> {
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
        Ok(Value::Object(document)) => Ok(document),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err("the document is no mapping".to_owned()),
        Err(_) => Err("the document is no valid YAML".to_owned()),
    }
}

/// `hostname` wins over `fqdn`, which wins over the server's name; a full name gives its first label.
fn name(system: &mut System, document: &Map<String, Value>) {
    let given = ["hostname", "fqdn"].into_iter().find_map(|key| document.get(key).and_then(Value::as_str));
    if let Some(label) = given.and_then(|name| name.split('.').next()).filter(|label| !label.is_empty()) {
        label.clone_into(&mut system.hostname);
    }
}

fn write(system: &mut System, file: &Value) -> Result<(), String> {
    let path = file["path"].as_str().filter(|path| !path.is_empty()).ok_or("an entry has no path")?;
    let content = match &file["content"] {
        Value::Null => String::new(),
        content => as_python_writes(content),
    };
    let decode = |content: &str| {
        let compact: String = content.split_whitespace().collect();
        STANDARD.decode(compact).map_err(|_| format!("{path} is no base64"))
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| format!("{path} is no text"));
    let content = match file["encoding"].as_str().unwrap_or_default().to_ascii_lowercase().as_str() {
        "b64" | "base64" => text(decode(&content)?)?,
        "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64" => gunzip(&decode(&content)?)?,
        "" | "text/plain" => content,
        // Bytes of gzip are no text, so they cannot stand in the document.
        "gz" | "gzip" => return Err(format!("{path} is no gzip")),
        other => {
            system.note(&format!("write_files: unknown encoding {other:?}, taken as text"));
            content
        }
    };
    let mode = match &file["permissions"] {
        Value::Null => 0o644,
        Value::String(digits) => u32::from_str_radix(digits.trim_start_matches("0o"), 8).unwrap_or_else(|_| {
            system.note(&format!("write_files: {digits:?} are no permissions"));
            0o644
        }),
        number => {
            system.note(&format!("schema: permissions of {path} are no string"));
            number.as_u64().and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
        }
    };
    system.write(path, Some(content), file["append"] == true);
    system.set_mode(path, |_| mode);
    system.note(&format!("writes {path}"));
    Ok(())
}

/// The script that `runcmd` becomes: lists are words that no shell touches, texts are lines of it.
fn lines(runcmd: Option<&Value>) -> Result<Vec<String>, String> {
    let items = match runcmd {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(_) => return Err("runcmd is no list, so nothing of it is run".to_owned()),
    };
    let line = |item: &Value| match item {
        Value::String(line) => Ok(line.clone()),
        Value::Array(words) => {
            let quote = |word: &Value| format!("'{}'", as_python_writes(word).replace('\'', r"'\''"));
            Ok(words.iter().map(quote).collect::<Vec<_>>().join(" "))
        }
        Value::Null => Ok(String::new()),
        _ => Err("an item of runcmd is neither text nor list, so nothing of it is run".to_owned()),
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
