//! Large pieces of JSON that are the same in every answer, such as a server type with all its prices: written once,
//! and set into answers as text. Nothing is seen of this but the time that it saves in long series of worlds.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;

/// What marks a place in an answer where a piece belongs.
const MARK: &str = "\"@@memo ";

#[derive(Default)]
struct Pieces {
    numbers: BTreeMap<String, usize>,
    texts: Vec<String>,
}

thread_local! {
    static PIECES: RefCell<Pieces> = RefCell::default();
}

/// Stands for what `make` returns, which `key` must fully decide, until [`fill`] writes it.
pub(crate) fn piece(key: String, make: impl FnOnce() -> Value) -> Value {
    PIECES.with_borrow_mut(|pieces| {
        let next = pieces.texts.len();
        let number = *pieces.numbers.entry(key).or_insert(next);
        if number == next {
            pieces.texts.push(make().to_string());
        }
        Value::String(format!("@@memo {number:06}"))
    })
}

/// The answer's text with every piece in its place.
pub(crate) fn fill(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    PIECES.with_borrow(|pieces| {
        let mut filled = String::with_capacity(text.len() * 2);
        let mut parts = text.split(MARK);
        filled.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let piece = part.get(..6).and_then(|number| number.parse().ok()).and_then(|at: usize| pieces.texts.get(at));
            match (piece, part.get(7..)) {
                (Some(piece), Some(rest)) => filled.extend([piece.as_str(), rest]),
                // Somebody's own text that only looks like a mark.
                _ => filled.extend([MARK, part]),
            }
        }
        filled
    })
}
