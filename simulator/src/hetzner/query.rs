//! What a request asks for in its query, and the pages of a list.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::reply::{json_reply, object};

/// Names and values, decoded, in order.
pub(super) type Query = Vec<(String, String)>;

/// The first value of this name.
pub(super) fn value<'a>(query: &'a Query, name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// All values of this name.
pub(super) fn values<'a>(query: &'a Query, name: &str) -> Vec<&'a str> {
    query.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

/// The number that an id in a path or a query is, if it is one.
pub(super) fn parse(id: &str) -> Option<u64> {
    id.parse().ok()
}

/// One page of a list, with the six numbers that describe it.
pub(super) fn paged(key: &str, items: Vec<Value>, query: &Query) -> Response<Bytes> {
    let number = |name: &str, usual: usize| value(query, name).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (page, per_page) = (number("page", 1).max(1), number("per_page", 25).clamp(1, 50));
    let total = items.len();
    let last = total.div_ceil(per_page).max(1);
    let items: Vec<Value> = items.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    let pagination = json!({
        "page": page, "per_page": per_page, "previous_page": (page > 1).then(|| page - 1),
        "next_page": (page < last).then_some(page + 1), "last_page": last, "total_entries": total,
    });
    let meta = object([("pagination", pagination)]);
    json_reply(200, &object([(key, Value::Array(items)), ("meta", meta)]))
}
