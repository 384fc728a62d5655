//! Answers that are handed on as they came.

use crate::secret::Secret;

/// A JSON document in an API's own words: for callers that know the field names of that API and want all of them.
///
/// It may hold what is secret (a root password, user data), so it is printed nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document(Secret);

impl Document {
    /// A document that is known to be JSON.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text.into()))
    }

    /// The body of an answer that was read before.
    pub fn of(answer: &http::Response<bytes::Bytes>) -> Self {
        Self::new(String::from_utf8_lossy(answer.body()))
    }

    /// Its text.
    pub fn text(&self) -> &str {
        self.0.expose()
    }
}
