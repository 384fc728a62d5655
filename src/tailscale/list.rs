//! Lists as Tailscale writes them: under a name of their own, `null` or left out when they are empty
//! (`facts/tailscale-and-first-boot.md` A3).

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// What stands in a list.
pub(super) trait Item {
    /// The name of the list.
    const LIST: &'static str;
}

/// A list of things. A document that says other things and has no such list is somebody else's, and proves no absence.
pub(super) struct Listed<T>(pub(super) Vec<T>);

impl<'de, T: Item + Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Item + Deserialize<'de>> Visitor<'de> for Reader<T> {
    type Value = Listed<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a document with {}", T::LIST)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed<T>, A::Error> {
        let (mut list, mut has_others) = (None, false);
        while let Some(name) = map.next_key::<String>()? {
            if name == T::LIST {
                list = Some(map.next_value::<Option<Vec<T>>>()?.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
                has_others = true;
            }
        }
        match list {
            None if has_others => Err(A::Error::missing_field(T::LIST)),
            list => Ok(Listed(list.unwrap_or_default())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Item for u8 {
        const LIST: &'static str = "numbers";
    }

    #[test]
    fn g27_an_empty_list_may_be_left_out_but_not_of_somebody_elses_document() {
        let read = |text: &str| serde_json::from_str::<Listed<u8>>(text).map(|Listed(list)| list).ok();
        for body in [r#"{"numbers":null}"#, "{}", r#"{"numbers":[]}"#, r#"{"numbers":null,"new":1}"#] {
            assert_eq!(read(body), Some(vec![]), "{body}");
        }
        assert_eq!(read(r#"{"new":{"numbers":[9]},"numbers":[1,2]}"#), Some(vec![1, 2]));
        for body in [r#"{"message":"please sign in"}"#, "[]", "[[]]", "null", "1", r#"{"numbers":{}}"#] {
            assert_eq!(read(body), None, "{body}");
        }
    }
}
