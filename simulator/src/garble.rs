//! Spoils an answer: JSON of the documented shape becomes JSON of another one, or none.
//!
//! [`garble`] does so in any way, so that what it makes may be a lie: a list that is shorter, an id that is another's.
//! [`misshape`] leaves nothing that could be true of some other world: whoever reads with care can see the damage.

use bytes::Bytes;
use serde_json::{Map, Number, Value};

/// The body, spoiled in one to three places, by a seed. A body that is no JSON stays as it is.
pub(crate) fn garble(body: &Bytes, seed: u64) -> Bytes {
    spoiled(body, seed, spoil)
}

/// The same, but every value that is spoiled is of a wrong type then, and none is missing.
pub(crate) fn misshape(body: &Bytes, seed: u64) -> Bytes {
    spoiled(body, seed, retype)
}

type Spoil = fn(&mut Value, &mut fastrand::Rng);

fn spoiled(body: &Bytes, seed: u64, spoil: Spoil) -> Bytes {
    let Ok(mut json) = serde_json::from_slice::<Value>(body) else { return body.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..rng.usize(1..=3) {
        let places = count(&json);
        let place = rng.usize(0..places);
        spoil_at(&mut json, &mut { place }, &mut rng, spoil);
    }
    let mut text = json.to_string().into_bytes();
    if rng.u8(0..8) == 0 && !text.is_empty() {
        text.truncate(rng.usize(0..text.len()));
    }
    text.into()
}

/// How many values there are, with those inside others.
fn count(json: &Value) -> usize {
    1 + match json {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

/// Spoils the value at a place, counted as [`count`] does. Returns whether it was in here.
fn spoil_at(json: &mut Value, place: &mut usize, rng: &mut fastrand::Rng, spoil: Spoil) -> bool {
    if *place == 0 {
        spoil(json, rng);
        return true;
    }
    *place -= 1;
    match json {
        Value::Array(items) => items.iter_mut().any(|item| spoil_at(item, place, rng, spoil)),
        Value::Object(fields) => fields.values_mut().any(|field| spoil_at(field, place, rng, spoil)),
        _ => false,
    }
}

fn spoil(json: &mut Value, rng: &mut fastrand::Rng) {
    let replaced = match (&mut *json, rng.u8(0..3)) {
        (_, 0) | (Value::Null, _) => any_value(rng),
        (Value::Object(fields), _) => return spoil_fields(fields, rng),
        (Value::Array(items), _) => return spoil_items(items, rng),
        (Value::Number(number), _) => spoiled_number(number, rng),
        (Value::String(text), _) => spoiled_text(text, rng),
        (Value::Bool(flag), _) => Value::Bool(!*flag),
    };
    *json = replaced;
}

/// Something of another type. Neither stands for an absence, and none becomes sound if it is spoiled again.
fn retype(json: &mut Value, rng: &mut fastrand::Rng) {
    let (fraction, nested) = (Value::from(0.5), serde_json::json!([0.5]));
    *json = match json {
        Value::Number(_) => nested,
        Value::Array(_) => fraction,
        _ => [fraction, nested][rng.usize(0..2)].clone(),
    };
}

fn any_value(rng: &mut fastrand::Rng) -> Value {
    match rng.u8(0..8) {
        0 | 1 => Value::Null,
        2 => Value::Bool(rng.bool()),
        3 => Value::from(rng.i64(-5..5)),
        4 => Value::from("x"),
        5 => Value::Array(Vec::new()),
        6 => Value::Object(Map::new()),
        _ => Value::from(1e300),
    }
}

fn spoil_fields(fields: &mut Map<String, Value>, rng: &mut fastrand::Rng) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let (Some(one), Some(other)) = (rng.choice(&names).cloned(), rng.choice(&names).cloned()) else { return };
    match rng.u8(0..4) {
        0 | 1 => {
            fields.remove(&one);
        }
        2 => {
            // Two fields change places, ids among them.
            let (a, b) = (fields.get(&one).cloned(), fields.get(&other).cloned());
            fields.extend(b.map(|value| (one, value)).into_iter().chain(a.map(|value| (other, value))));
        }
        _ => {
            let inner = std::mem::take(fields);
            fields.insert(one, Value::Object(inner));
        }
    }
}

fn spoil_items(items: &mut Vec<Value>, rng: &mut fastrand::Rng) {
    match rng.u8(0..4) {
        0 => items.clear(),
        1 => items.extend_from_within(..),
        2 => {
            let inner = std::mem::take(items);
            items.push(Value::Array(inner));
        }
        _ => {
            items.pop();
        }
    }
}

fn spoiled_number(number: &Number, rng: &mut fastrand::Rng) -> Value {
    let value = number.as_i64().unwrap_or_default();
    match rng.u8(0..7) {
        0 => Value::from(0),
        1 => Value::from(value.wrapping_neg()),
        2 => Value::from(u64::MAX),
        3 => Value::from(value.wrapping_add(1)),
        4 => Value::from(value.to_string()),
        5 => Value::from(1_u64 << 60),
        _ => Value::from(0.5),
    }
}

fn spoiled_text(text: &str, rng: &mut fastrand::Rng) -> Value {
    match rng.u8(0..6) {
        0 => Value::from(""),
        1 => Value::from(format!("{text}\u{1b}[31m\r\n::error::\u{202e}\0")),
        2 => Value::from(format!(" {text} ")),
        3 => Value::from("\u{7f}\u{1}".repeat(200)),
        4 => Value::from(text.chars().rev().collect::<String>()),
        _ => Value::from(format!("{text}/../{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_spoils_one_way_and_most_seeds_spoil() {
        let body = Bytes::from(r#"{"servers":[{"id":7,"name":"a","labels":{"x":"y"},"ok":true}],"meta":null}"#);
        let spoiled: Vec<Bytes> = (0..500).map(|seed| garble(&body, seed)).collect();
        assert_eq!(spoiled, (0..500).map(|seed| garble(&body, seed)).collect::<Vec<_>>());
        let same = |text: &Bytes| serde_json::from_slice::<Value>(text).ok() == serde_json::from_slice(&body).ok();
        assert!(spoiled.iter().filter(|text| same(text)).count() < 50);
        assert_eq!(garble(&Bytes::from_static(b"<html>"), 1), "<html>");
    }

    #[test]
    fn what_is_misshapen_has_all_its_values_and_one_of_a_wrong_type() {
        let body = Bytes::from(r#"{"servers":[{"id":7,"name":"a"},{"id":8,"name":"b"}]}"#);
        for seed in 0..500 {
            let Ok(json) = serde_json::from_slice::<Value>(&misshape(&body, seed)) else { continue };
            let server = |server: &Value| server["id"].is_u64() && server["name"].is_string();
            let is_sound = json["servers"].as_array().is_some_and(|servers| servers.iter().all(server));
            assert!(!is_sound, "seed {seed} left {json}");
        }
    }
}
