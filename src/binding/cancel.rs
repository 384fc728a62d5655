//! The native end of an `AbortSignal`.

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

    pub(super) fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}
