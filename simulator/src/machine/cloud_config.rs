//! User data, as cloud-init takes it apart (B2, B3).

use std::collections::BTreeMap;

use base64::Engine as _;
use serde_json::Value;

/// What a blob turned out to be.
pub(super) enum Reading {
    CloudConfig(CloudConfig),
    Script(String),
}

/// The parts of a `#cloud-config` that matter here.
#[derive(Default)]
pub(super) struct CloudConfig {
    pub files: BTreeMap<String, String>,
    pub commands: Vec<Command>,
    pub hostname: Option<String>,
}

/// One item of `runcmd`.
pub(super) enum Command {
    /// A list: words that no shell touches.
    Words(Vec<String>),
    /// A string: a line for the shell.
    Line(String),
}

impl CloudConfig {
    /// A file that the document delivers.
    pub(super) fn file(&self, path: &str) -> Option<String> {
        self.files.get(path).cloned()
    }
}

/// Reads a blob. The error is why cloud-init would ignore it, or part of it.
pub(super) fn read(blob: &str) -> Result<Reading, String> {
    if blob.is_empty() {
        return Err("there is no user data".to_owned());
    }
    if blob.starts_with('\u{feff}') {
        return Err("a byte order mark stands before the document".to_owned());
    }
    // Only a blob that is strict base64 as a whole is decoded; a line end at its close spoils it.
    let decoded =
        base64::engine::general_purpose::STANDARD.decode(blob).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.as_deref().unwrap_or(blob);
    let start = text.trim_start();
    if start.starts_with("#!") {
        return Ok(Reading::Script(text.to_owned()));
    }
    let head = text.get(..4096.min(text.len())).unwrap_or(text).to_ascii_lowercase();
    if head.contains("mime-version:") {
        return Err("it goes through the e-mail parser, and multipart documents are not read here".to_owned());
    }
    if !start.to_ascii_lowercase().starts_with("#cloud-config") {
        return Err("the first line is not #cloud-config".to_owned());
    }
    if text.chars().any(|letter| matches!(letter, '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}')) {
        return Err("it holds control characters, for which YAML refuses the whole document".to_owned());
    }
    let tree: Value = serde_saphyr::from_str(start).map_err(|_| "it is no YAML".to_owned())?;
    let Value::Object(tree) = tree else { return Err("it is no mapping".to_owned()) };
    let mut config = CloudConfig {
        hostname: tree.get("hostname").and_then(Value::as_str).map(str::to_owned),
        ..CloudConfig::default()
    };
    for file in tree.get("write_files").and_then(Value::as_array).into_iter().flatten() {
        config.write(file)?;
    }
    match tree.get("runcmd") {
        None | Some(Value::Null) => {}
        Some(Value::Array(items)) => {
            for item in items {
                config.commands.push(command(item)?);
            }
        }
        Some(_) => return Err("runcmd is no list".to_owned()),
    }
    Ok(Reading::CloudConfig(config))
}

impl CloudConfig {
    fn write(&mut self, file: &Value) -> Result<(), String> {
        let path = file["path"].as_str().ok_or("a file of write_files has no path")?;
        let content = file["content"].as_str().unwrap_or_default();
        let content = match file["encoding"].as_str().unwrap_or_default() {
            "" | "text/plain" => content.to_owned(),
            "b64" | "base64" => {
                let compact: String = content.split_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD.decode(compact);
                bytes
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok())
                    .ok_or_else(|| format!("{path} is no base64"))?
            }
            other => return Err(format!("{path} has the encoding {other}, which is not read here")),
        };
        let entry = self.files.entry(path.to_owned()).or_default();
        if file["append"].as_bool() == Some(true) {
            entry.push_str(&content);
        } else {
            *entry = content;
        }
        Ok(())
    }
}

fn command(item: &Value) -> Result<Command, String> {
    match item {
        Value::String(line) => Ok(Command::Line(line.clone())),
        Value::Array(words) => {
            let word = |word: &Value| match word {
                Value::String(text) => Ok(text.clone()),
                Value::Number(number) => Ok(number.to_string()),
                _ => Err("a word of runcmd is no text".to_owned()),
            };
            words.iter().map(word).collect::<Result<_, _>>().map(Command::Words)
        }
        _ => Err("an item of runcmd is neither list nor text".to_owned()),
    }
}
