//! What a request asks for in its query, and the pages of a list.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use super::selector::{Labels, Selector};
use crate::reply::{hetzner_error, json_reply, object};

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

/// What lists are asked for by, and sorted by.
pub(super) trait Named {
    fn id(&self) -> u64;
    fn name(&self) -> &str;
    fn labels(&self) -> &Labels;
}

/// What is asked for by the fields of these names.
macro_rules! named {
    ($kind:ty) => {
        impl $crate::hetzner::query::Named for $kind {
            fn id(&self) -> u64 {
                self.id
            }

            fn name(&self) -> &str {
                &self.name
            }

            fn labels(&self) -> &$crate::hetzner::selector::Labels {
                &self.labels
            }
        }
    };
}
pub(super) use named;

/// Those that a list's `name` and `label_selector` mean, in the order of its `sort`.
pub(super) fn wanted<'a, T: Named + 'a>(
    all: impl Iterator<Item = &'a T>,
    query: &Query,
) -> Result<Vec<&'a T>, Box<Response<Bytes>>> {
    let (name, selector) = (value(query, "name"), selector(query)?);
    let fits = |item: &&T| {
        name.is_none_or(|name| item.name() == name)
            && selector.as_ref().is_none_or(|selector| selector.fits(item.labels()))
    };
    let mut wanted: Vec<&T> = all.filter(fits).collect();
    sort(&mut wanted, query);
    Ok(wanted)
}

/// The label selector of a list, if it has one.
pub(super) fn selector(query: &Query) -> Result<Option<Selector>, Box<Response<Bytes>>> {
    match value(query, "label_selector").map(Selector::parse) {
        Some(None) => Err(hetzner_error(422, "invalid_input", "invalid label selector", json!({})).into()),
        selector => Ok(selector.flatten()),
    }
}

/// Sorts by `sort=FIELD:ORDER`, the first of several being the strongest.
pub(super) fn sort<T: Named>(items: &mut [&T], query: &Query) {
    for key in values(query, "sort").into_iter().rev() {
        let (field, down) = key.split_once(':').map_or((key, false), |(field, order)| (field, order == "desc"));
        match field {
            "name" => items.sort_by(|a, b| a.name().cmp(b.name())),
            "id" | "created" => items.sort_by_key(|item| item.id()),
            _ => {}
        }
        if down {
            items.reverse();
        }
    }
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
