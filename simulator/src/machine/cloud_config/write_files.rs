//! `write_files`, entry by entry. What cannot be done to one entry ends the section: what stands before it is there,
//! the entry itself perhaps in part, and nothing behind it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{as_python_writes, is_true};
use crate::machine::system::System;
use crate::machine::user_data::gunzip;

const USUAL_MODE: u32 = 0o644;

/// Who is known on every image. Users of the document come later than all files but those that are put off.
const USERS: [&str; 20] = [
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "nobody",
    "_apt",
    "systemd-network",
    "messagebus",
];
const GROUPS: [&str; 24] = [
    "root", "daemon", "bin", "sys", "adm", "tty", "disk", "lp", "mail", "news", "uucp", "man", "proxy", "www-data",
    "backup", "operator", "shadow", "utmp", "video", "staff", "games", "users", "nogroup", "sudo",
];

/// Writes the entries of one stage.
pub(super) fn write(
    system: &mut System,
    files: Option<&Value>,
    late: bool,
    document: &Map<String, Value>,
) -> Result<(), String> {
    let files = match files {
        None => return Ok(()),
        Some(Value::Array(files)) => files,
        // Each letter of a text, or each key of a mapping, would be an entry; neither is one.
        Some(_) => return if late { Ok(()) } else { Err("it is no list".to_owned()) },
    };
    // The stage looks at all of them first.
    if files.iter().any(|file| !(file.is_object() || file.is_string() || file.is_array())) {
        return if late { Ok(()) } else { Err("an entry is no mapping, so nothing is written".to_owned()) };
    }
    let known = |kind: &str, name: &str| late && names(document.get(kind)).any(|known| known == name);
    files.iter().filter(|file| is_true(file.get("defer")) == late).try_for_each(|file| entry(system, file, &known))
}

fn entry(system: &mut System, file: &Value, known: &dyn Fn(&str, &str) -> bool) -> Result<(), String> {
    if !file.is_object() {
        return Err("an entry is no mapping".to_owned());
    }
    let path = match &file["path"] {
        Value::String(path) if !path.is_empty() => absolute(path),
        path if is_nothing(path) => {
            system.note("write_files: an entry has no path and is left out");
            return Ok(());
        }
        _ => return Err("a path is no text".to_owned()),
    };
    let content = content(system, file, &path)?;
    let owner = match &file["owner"] {
        Value::String(owner) => owner,
        owner if is_nothing(owner) => "",
        _ => return Err(format!("the owner of {path} is no text")),
    };
    let mode = mode(system, &file["permissions"], &path);
    system.write(&path, Some(content), is_true(file.get("append")));
    system.set_mode(&path, |_| mode);
    system.note(&format!("writes {path}"));
    // The file is there by now, and stays.
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let stranger = |kind: &str, name: &str, usual: &[&str]| {
        let name = name.trim();
        let nobody = name.is_empty() || name == "-1" || name.eq_ignore_ascii_case("none");
        !(nobody || usual.contains(&name) || known(kind, name))
    };
    if stranger("users", user, &USERS) || stranger("groups", group, &GROUPS) {
        return Err(format!("{path} cannot be given to {owner}, whom nobody knows"));
    }
    Ok(())
}

fn content(system: &mut System, file: &Value, path: &str) -> Result<String, String> {
    let content = match file.get("content") {
        None => "",
        Some(Value::String(content)) => content,
        Some(_) => return Err(format!("the content of {path} is no text")),
    };
    let encoding = match &file["encoding"] {
        Value::String(encoding) => encoding.trim(),
        encoding if is_nothing(encoding) => "",
        _ => return Err(format!("the encoding of {path} is no text")),
    };
    let decode = |content: &str| {
        // What is no letter of base64 is passed over.
        let letters: String = content.chars().filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c)).collect();
        STANDARD.decode(letters).map_err(|_| format!("{path} is no base64"))
    };
    match encoding.to_ascii_lowercase().as_str() {
        "b64" | "base64" => String::from_utf8(decode(content)?).map_err(|_| format!("{path} is no text")),
        "gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64" => gunzip(&decode(content)?),
        "" | "text/plain" => Ok(content.to_owned()),
        // Bytes of gzip are no text, so they cannot stand in the document.
        "gz" | "gzip" => Err(format!("{path} is no gzip")),
        other => {
            system.note(&format!("write_files: unknown encoding {other:?}, taken as text"));
            Ok(content.to_owned())
        }
    }
}

fn mode(system: &mut System, permissions: &Value, path: &str) -> u32 {
    let text = match permissions {
        Value::Null => return USUAL_MODE,
        Value::String(digits) => digits.clone(),
        number => {
            system.note(&format!("schema: permissions of {path} are no string"));
            if let Some(mode) = number.as_f64() {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "as Python's int does it"
                )]
                return mode as u32;
            }
            as_python_writes(number)
        }
    };
    let digits = text.trim();
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    u32::from_str_radix(digits, 8).unwrap_or_else(|_| {
        system.note(&format!("write_files: {text:?} are no permissions, so {path} gets 0644"));
        USUAL_MODE
    })
}

/// What counts as absent where Python asks whether there is something.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) => false,
    }
}

/// A path from the root, where cloud-init works.
fn absolute(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    format!("/{}", parts.join("/"))
}

/// The names in `users` or `groups`: plain, or in a mapping.
fn names(list: Option<&Value>) -> impl Iterator<Item = &str> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| match item {
        Value::String(name) => Some(name.as_str()),
        Value::Object(fields) => {
            fields.get("name").and_then(Value::as_str).or_else(|| fields.keys().next().map(String::as_str))
        }
        _ => None,
    })
}
