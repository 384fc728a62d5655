//! The native end of an `AbortSignal`.

use napi::bindgen_prelude::{FromNapiRef, FromNapiValue, Result, sys};
use napi_derive::napi;

use crate::provision::CancellationToken;

/// Gives one call up: its undo starts at once.
#[napi]
pub struct Cancel {
    token: CancellationToken,
}

#[napi]
impl Cancel {
    /// A handle for one call.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self { token: CancellationToken::new() }
    }

    /// Gives the call up. Does nothing the second time, or after the call has settled.
    #[napi]
    pub fn cancel(&self) {
        self.token.cancel();
    }
}

/// What a call takes from its handle, while JavaScript still stands at the call.
///
/// A `&Cancel` would do no longer than that: an environment that ends frees the handle, be it in the middle of a call, or before the
/// runtime has so much as begun with it. That is what happens to a worker thread that is terminated.
pub struct Token(CancellationToken);

impl From<Token> for CancellationToken {
    fn from(Token(token): Token) -> Self {
        token
    }
}

#[expect(unsafe_code, reason = "the only way to read an argument of one's own kind")]
impl FromNapiValue for Token {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> Result<Self> {
        // SAFETY: both come from napi, which calls this in the call that brings them; the reference does not leave it.
        let handle = unsafe { Cancel::from_napi_ref(env, value) }?;
        Ok(Self(handle.token.clone()))
    }
}
