//! What the requests that make things share: how a body is read, and how it is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::Response;
use serde_json::{Map, Value, json};

use super::query::Named;
use super::selector::{Labels, complaint};
use crate::reply::hetzner_error;

/// What came of reading; the error is the answer.
pub(super) type Checked<T> = Result<T, Box<Response<Bytes>>>;

/// The fields of a body.
pub(super) fn read_body(body: &[u8]) -> Checked<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => Ok(body),
        _ => Err(hetzner_error(400, "json_error", "could not parse the request body as JSON", Value::Null).into()),
    }
}

/// The labels of a new thing.
pub(super) fn read_labels(labels: Option<&Value>) -> Checked<Labels> {
    let labels = match labels {
        None | Some(Value::Null) => Labels::new(),
        Some(labels) => {
            serde_json::from_value(labels.clone()).map_err(|_| invalid("labels", "Not a valid mapping."))?
        }
    };
    match complaint(&labels) {
        Some(complaint) => Err(invalid("labels", &complaint).into()),
        None => Ok(labels),
    }
}

/// The name of a new thing that is no server: 1 to 128 characters, and no other of its kind has it.
pub(super) fn read_name<T: Named>(name: Option<&Value>, what: &str, others: &BTreeMap<u64, T>) -> Checked<String> {
    let name = name.and_then(Value::as_str).unwrap_or_default();
    if !(1..=128).contains(&name.chars().count()) {
        return Err(invalid("name", "Length must be between 1 and 128.").into());
    }
    if others.values().any(|other| other.name() == name) {
        let details = json!({ "fields": [{ "name": "name" }] });
        let message = format!("{what} name is already used");
        return Err(hetzner_error(409, "uniqueness_error", &message, details).into());
    }
    Ok(name.to_owned())
}

/// A list in a body; none is an empty one.
pub(super) fn read_list<'a>(body: &'a Map<String, Value>, field: &str) -> Checked<&'a [Value]> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(invalid(field, "Not a valid list.").into()),
    }
}

/// The refusal of a field.
pub(super) fn invalid(field: &str, message: &str) -> Response<Bytes> {
    let details = json!({ "fields": [{ "name": field, "messages": [message] }] });
    hetzner_error(422, "invalid_input", &format!("invalid input in field '{field}'"), details)
}

/// The refusal of a deletion of what is in use. Word for word for firewalls (ansible-collections/hetzner.hcloud#380).
pub(super) fn in_use(what: &str, id: u64) -> Response<Bytes> {
    hetzner_error(422, "resource_in_use", &format!("{what} with ID {id} is still in use"), Value::Null)
}
