//! Objects of the input, field by field. Every complaint names its path, and never quotes a value.

use std::time::Duration;

use serde_json::{Map, Value};

use super::settings;
use crate::provision::Cause;
use crate::provision::settings::clean;

/// A day in milliseconds; longer is a slip of the unit.
const LONGEST_MS: f64 = 86_400_000.0;

/// Ids of Hetzner's end here, as JavaScript's numbers do.
pub(super) const LARGEST_ID: u64 = (1 << 53) - 1;

/// A short word without anything that has a meaning elsewhere.
pub(super) fn is_plain(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// An object of the input, and where it stands.
pub(super) struct Fields<'a> {
    path: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(path: &'static str, value: Option<&'a Value>) -> Result<Self, Cause> {
        let object = value.and_then(Value::as_object).filter(|object| !object.contains_key(UNSUPPORTED));
        let found = value.map_or("nothing", describe);
        let why = format!("expected an object, found {found}");
        object.map(|object| Self { path, object }).ok_or_else(|| Cause::Input { field: path.to_owned(), why })
    }

    /// A warning for each field that nobody reads.
    pub(super) fn unknown(&self, known: &[&'static str]) -> Vec<String> {
        /// These are `index.js`'s own; they are named here so that a slip of the pen finds them.
        const OF_THE_WRAPPER: [&str; 6] = ["signal", "onProgress", "onSecret", "env", "logger", "bootReports"];
        let known: Vec<&str> = known.iter().copied().chain(settings::option_names()).collect();
        let unknown = self.object.keys().filter(|name| !known.contains(&name.as_str()));
        let warn = |name: &String| {
            let known = known.iter().chain(&OF_THE_WRAPPER);
            let nearest = known.min_by_key(|known| strsim::levenshtein(known, name)).copied();
            let close = nearest.filter(|nearest| strsim::levenshtein(nearest, name) <= 3);
            let meant = close.map(|close| format!("; did you mean {close}?")).unwrap_or_default();
            format!("Unknown option {} is ignored{meant}", clean(name))
        };
        unknown.map(warn).collect()
    }

    pub(super) fn refuse(&self, name: &str, why: impl Into<String>) -> Cause {
        let field = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Cause::Input { field, why: why.into() }
    }

    /// Whether a field is neither absent nor `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.present(name).is_some()
    }

    /// A field that is neither absent nor `null`.
    fn present(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn typed<T>(&self, name: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, Cause> {
        let Some(value) = self.present(name) else { return Ok(None) };
        let wrong = || self.refuse(name, format!("expected {kind}, found {}", describe(value)));
        read(value).map(Some).ok_or_else(wrong)
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Cause> {
        self.typed(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Cause> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Cause> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number within limits.
    pub(super) fn whole(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Cause> {
        let Some(value) = self.present(name) else { return Ok(None) };
        // JavaScript writes 1e21 and the like as fractions.
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        let found = || format!("expected a whole number between {least} and {most}, found {}", describe(value));
        number.map(Some).ok_or_else(|| self.refuse(name, found()))
    }

    /// A field that has to be there.
    pub(super) fn required<T>(&self, name: &str, found: Option<T>) -> Result<T, Cause> {
        found.ok_or_else(|| self.refuse(name, "is required"))
    }

    /// A length of time in milliseconds, of at most a day.
    pub(super) fn duration(&self, name: &str, least: f64) -> Result<Option<Duration>, Cause> {
        match self.number(name)? {
            None => Ok(None),
            Some(ms) if (least..=LONGEST_MS).contains(&ms) => Ok(Some(Duration::from_secs_f64(ms / 1000.0))),
            Some(_) => Err(self.refuse(name, format!("must be between {least} and {LONGEST_MS} milliseconds"))),
        }
    }

    /// An amount of money, not negative.
    pub(super) fn amount(&self, name: &str) -> Result<Option<f64>, Cause> {
        match self.number(name)? {
            Some(amount) if !(0.0..=1e9).contains(&amount) => Err(self.refuse(name, "must be an amount of 0 or more")),
            amount => Ok(amount),
        }
    }

    /// An array of 1 to `most` of what `read` accepts, which is `wanted`.
    pub(super) fn list<T>(
        &self,
        name: &str,
        most: usize,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Cause> {
        let Some(list) = self.typed(name, "an array", Value::as_array)? else { return Ok(None) };
        if list.is_empty() || list.len() > most {
            return Err(self.refuse(name, format!("must hold 1 to {most} items")));
        }
        let read = |(index, value): (usize, &Value)| {
            // What is of the right type but not acceptable is told so; its type would not help.
            let is_close =
                value.is_string() || (value.is_object() || value.is_array()) && unsupported(value, "").is_none();
            let why = || match describe(value) {
                _ if is_close => format!("must be {wanted}"),
                found => format!("expected {wanted}, found {found}"),
            };
            read(value).ok_or_else(|| self.refuse(&format!("{name}[{index}]"), why()))
        };
        list.iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// The same, in which nothing may stand twice.
    pub(super) fn set<T: PartialEq>(
        &self,
        name: &str,
        most: usize,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Cause> {
        let Some(items) = self.list(name, most, wanted, read)? else { return Ok(None) };
        match (1..items.len()).find(|index| items[..*index].contains(&items[*index])) {
            Some(index) => Err(self.refuse(&format!("{name}[{index}]"), "stands there before")),
            None => Ok(Some(items)),
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Map<String, Value>>, Cause> {
        let of = |value: &'a Value| value.as_object().filter(|object| !object.contains_key(UNSUPPORTED));
        self.typed(name, "an object", of)
    }

    /// The fields of an object that is a field of this one, and stands at this path.
    pub(super) fn below(&self, name: &str, path: &'static str) -> Result<Self, Cause> {
        Self::new(path, self.object.get(name))
    }

    /// What is nested is ours alone, so a name that nobody knows is a slip.
    pub(super) fn refuse_unknown(&self, known: &[&str]) -> Result<(), Cause> {
        match self.object.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(self.refuse(&clean(name), format!("is not known; known: {}", known.join(", ")))),
            None => Ok(()),
        }
    }
}

/// How `index.js` marks what JSON cannot hold.
pub(super) const UNSUPPORTED: &str = "$unsupported";

/// The path of what JSON cannot hold, if there is any in a value.
pub(super) fn unsupported(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(object) if object.contains_key(UNSUPPORTED) => Some(path.to_owned()),
        Value::Object(object) => object.iter().find_map(|(key, value)| unsupported(value, &format!("{path}.{key}"))),
        Value::Array(list) => {
            list.iter().enumerate().find_map(|(index, value)| unsupported(value, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}

/// What a value is, without the value itself.
pub(super) fn describe(value: &Value) -> &str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if text.is_empty() => "an empty string",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(object) => match object.get(UNSUPPORTED).and_then(Value::as_str) {
            Some("function") => "a function",
            Some("bigint") => "a bigint",
            Some("symbol") => "a symbol",
            Some("circular") => "a circular object",
            Some("number") => "a number that JSON cannot hold",
            Some("text") => "a string that is no Unicode text",
            Some("unreadable") => "something that cannot be read",
            _ => "an object",
        },
    }
}
