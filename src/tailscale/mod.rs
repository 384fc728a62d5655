//! Tailscale's control API: its vocabulary, its requests, its errors. Facts: `facts/tailscale-and-first-boot.md`, part A.
//!
//! One [`Tailscale`] is one tailnet as its credential shows it to one call. The access token is shared by all calls of a process
//! ([`Tailnet`]): fetched when it is first needed, kept, and fetched anew once if it is refused. No property but a few ids is promised by the API's document, so
//! everything else may be absent.
//!
//! This room knows nothing of jobs or servers. It never narrows a request to "ours": whoever deletes a device has to
//! prove before that it is his, since the scope `devices:core` reaches the whole tailnet.

mod auth_key;
mod device;
mod error;
mod list;
mod token;
mod wait;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

pub use auth_key::{AuthKey, Capabilities, CreatedKey, KeyId, KeyOrder, key_id_of};
pub use device::{Device, NodeId};
pub use error::TailscaleError;
pub use token::Credentials;
pub use wait::Tailnet;

use crate::secret::Secret;
use crate::transport::request::Draft;
use crate::transport::{BaseUrl, BoxFuture, Call, Chain, Kept, Repeat, Within};

/// Where the API is found unless a setting says otherwise.
pub const DEFAULT_URL: &str = "https://api.tailscale.com/api/v2";

/// The tailnet that the credential belongs to.
const TAILNET: &str = "/tailnet/-";
/// Answers take a second or two; two in a row that never come must leave time for a third within a minute.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(15);

/// Called with every secret that the API mints for us, so that a log can mask it.
pub type OnSecret = Arc<dyn Fn(&Secret) + Send + Sync>;

/// One tailnet, as a credential shows it to one call.
pub struct Tailscale {
    chain: Chain,
    base: BaseUrl,
    credentials: Credentials,
    tailnet: Arc<Tailnet>,
    /// The last access token that `on_secret` has heard of.
    told: Mutex<Option<token::Token>>,
    on_secret: OnSecret,
}

impl Tailscale {
    /// A tailnet behind a credential. Its calls share `tailnet`.
    pub fn new(
        chain: Chain,
        base: BaseUrl,
        credentials: Credentials,
        tailnet: Arc<Tailnet>,
        on_secret: OnSecret,
    ) -> Self {
        Self { chain, base, credentials, tailnet, told: Mutex::default(), on_secret }
    }

    /// How many requests were made, repetitions included.
    pub fn sent(&self) -> u32 {
        self.chain.sent()
    }

    fn draft(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Draft {
        self.base.request(method, path, query)
    }

    /// Sends a request with the access token, and reads its answer. Boxed, because who holds a future has room for all that it
    /// awaits, and thousands may wait.
    fn send<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        repeat: Repeat,
        draft: impl Fn() -> Draft + Send + Sync + 'a,
        within: Within,
        read: impl Fn(&http::Response<Bytes>) -> Result<T, TailscaleError> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<T, TailscaleError>> {
        Box::pin(async move {
            let kept = Kept::default();
            let keep = |answer: &http::Response<Bytes>| self.accept(answer).and_then(|()| kept.keep(read(answer)));
            self.exchange(operation, repeat, &draft, within, &keep).await?;
            kept.take().ok_or(TailscaleError::Unreadable { what: "nothing was read of it", request_id: None })
        })
    }

    /// A token that is refused is dropped, and the request sent once more with a new one; that is no retry, since a 401
    /// proves that nothing was applied (fault G11).
    async fn exchange(
        &self,
        operation: &'static str,
        repeat: Repeat,
        draft: &(dyn Fn() -> Draft + Send + Sync),
        within: Within,
        keep: &(dyn Fn(&http::Response<Bytes>) -> Result<(), TailscaleError> + Send + Sync),
    ) -> Result<(), TailscaleError> {
        let mut renewed = false;
        loop {
            let token = self.access_token(within).await.map_err(|error| TailscaleError::NoToken(Box::new(error)))?;
            let call =
                Call { operation, request: draft().bearer(&token).build()?, repeat, attempt_limit: ATTEMPT_LIMIT };
            match self.chain.repeat(&call, within, keep).await {
                Err(error) if error.is_unauthorized() && !renewed => {
                    self.forget_token(&token).await;
                    renewed = true;
                }
                // What a token may do is fixed when it is minted. The next call gets one that may do what was granted since.
                Err(error @ TailscaleError::Refused { status: 400 | 403, .. }) => {
                    self.forget_token(&token).await;
                    return Err(error);
                }
                outcome => return outcome,
            }
        }
    }

    fn fetch<'a, T: DeserializeOwned + Send + 'a>(
        &'a self,
        operation: &'static str,
        draft: impl Fn() -> Draft + Send + Sync + 'a,
        within: Within,
    ) -> BoxFuture<'a, Result<T, TailscaleError>> {
        self.send(operation, Repeat::Safe, draft, within, decode)
    }

    fn accept(&self, answer: &http::Response<Bytes>) -> Result<(), TailscaleError> {
        if answer.status().is_success() {
            return Ok(());
        }
        Err(TailscaleError::refusal(answer, self.chain.clock().cloud_unix()))
    }
}

impl std::fmt::Debug for Tailscale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tailscale").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Reads a JSON body; the error never quotes the content, which may hold a key.
fn decode<T: DeserializeOwned>(answer: &http::Response<Bytes>) -> Result<T, TailscaleError> {
    serde_json::from_slice(document(answer)?).map_err(|error| {
        unreadable(
            answer,
            if error.is_data() { "it has another shape than documented" } else { "it is not whole JSON" },
        )
    })
}

/// The body, unless serde would take it for a document of which all that is optional is missing: a list.
fn document(answer: &http::Response<Bytes>) -> Result<&[u8], TailscaleError> {
    if answer.body().trim_ascii_start().starts_with(b"[") {
        return Err(unreadable(answer, "it is a list instead of a document"));
    }
    Ok(answer.body())
}

fn unreadable(answer: &http::Response<Bytes>, what: &'static str) -> TailscaleError {
    TailscaleError::Unreadable { what, request_id: error::request_id(answer.headers()) }
}

/// Whether a text that an answer calls an id can be put into a path. `..` and `/` would ask for something else, and what
/// begins as keys do is a secret.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with("tskey-")
}
