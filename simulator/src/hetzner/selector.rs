//! Labels and label selectors (`facts/hetzner.md` 1.2).

use std::collections::BTreeMap;

/// The labels of a thing.
pub(crate) type Labels = BTreeMap<String, String>;

/// What is wrong with labels, if anything.
pub(crate) fn complaint(labels: &Labels) -> Option<String> {
    labels.iter().find_map(|(key, value)| {
        let (prefix, name) = key.rsplit_once('/').map_or((None, key.as_str()), |(prefix, name)| (Some(prefix), name));
        let prefix_ok = prefix.is_none_or(|prefix| {
            !prefix.is_empty() && prefix.len() <= 253 && prefix != "hetzner.cloud" && prefix.split('.').all(is_word)
        });
        if !prefix_ok || !is_word(name) {
            return Some(format!("invalid label key {key}"));
        }
        (!value.is_empty() && !is_word(value)).then(|| format!("invalid label value for key {key}"))
    })
}

fn is_word(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    Has(String),
    HasNot(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

/// A selector: all its terms must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Term>);

impl Selector {
    /// Reads `k=v`, `k==v`, `k!=v`, `k`, `!k`, `k in (a,b)`, `k notin (a,b)`, with commas between. `None` if it cannot.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        split(text).into_iter().map(|term| parse_term(term.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether these labels fit. A missing label fits every "not".
    pub(crate) fn fits(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| match term {
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
            Term::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Term::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        })
    }
}

/// Splits at commas outside brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_term(term: &str) -> Option<Term> {
    for (operator, positive) in [(" notin ", false), (" in ", true)] {
        if let Some((key, list)) = term.split_once(operator) {
            let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
            let values = list.split(',').map(|value| value.trim().to_owned()).collect();
            let key = key_of(key)?;
            return Some(if positive { Term::In(key, values) } else { Term::NotIn(key, values) });
        }
    }
    for (operator, positive) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = term.split_once(operator) {
            let (key, values) = (key_of(key)?, vec![value.trim().to_owned()]);
            return Some(if positive { Term::In(key, values) } else { Term::NotIn(key, values) });
        }
    }
    match term.strip_prefix('!') {
        Some(key) => key_of(key).map(Term::HasNot),
        None => key_of(term).map(Term::Has),
    }
}

fn key_of(text: &str) -> Option<String> {
    let key = text.trim();
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    is_word(name).then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_follow_the_grammar() {
        let labels = Labels::from([
            ("env".into(), "prod".into()),
            ("type".into(), "web".into()),
            ("empty".into(), String::new()),
        ]);
        for (selector, fits) in [
            ("env=prod", Some(true)),
            ("env==prod,type=web", Some(true)),
            ("env=prod,type=db", Some(false)),
            ("env!=dev", Some(true)),
            ("missing!=x", Some(true)),
            ("env", Some(true)),
            ("!env", Some(false)),
            ("!missing", Some(true)),
            ("env in (dev, prod),type", Some(true)),
            ("env notin (dev,test)", Some(true)),
            ("missing notin (a)", Some(true)),
            ("empty=", Some(true)),
            ("env in prod", None),
            ("", None),
            ("=x", None),
        ] {
            assert_eq!(Selector::parse(selector).map(|s| s.fits(&labels)), fits, "{selector}");
        }
    }

    #[test]
    fn labels_are_checked() {
        for (key, value, good) in [
            ("a", "b", true),
            ("a", "", true),
            ("example.com/a", "b", true),
            ("hetzner.cloud/a", "b", false),
            ("-a", "b", false),
            ("a", "b c", false),
            ("a", "-b", false),
            ("", "b", false),
        ] {
            let labels = Labels::from([(key.into(), value.into())]);
            assert_eq!(complaint(&labels).is_none(), good, "{key}={value}");
        }
    }
}
