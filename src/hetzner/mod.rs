//! Hetzner Cloud: its vocabulary, its requests, its errors. Facts: `facts/hetzner.md`.
//!
//! Requests are built and answers are read by pure functions; [`Hetzner`] hands both to the transport chain. Decoding
//! is lenient: fields come and go (`datacenter` went in July 2026, `deprecated` in November), so everything that we do
//! not need may be absent, everything unknown is ignored, and enumerations stay open.
//!
//! This room knows nothing of jobs or tailnets.

mod action;
mod error;
mod label;
mod order;
mod primary_ip;
mod reference;
mod server;
mod server_type;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;

pub use action::{Action, ActionId, ActionStatus, PowerSwitch};
pub use error::{HetznerError, Refusal};
pub use label::{is_label_key, is_label_value, selector};
pub use order::{Attachments, CreateServer, Created, FirewallRef, Order, PublicNet};
pub use primary_ip::{PrimaryIp, PrimaryIpId};
pub use reference::{Attached, Attachment, Image};
pub use server::{Addresses, IdOrName, Labels, Server, ServerId};
pub use server_type::{Offer, Price, ServerType};
pub use wait::Project;

use crate::secret::Secret;
use crate::transport::request::Draft;
use crate::transport::{BaseUrl, BoxFuture, Call, Chain, Kept, Repeat, Within};

/// Where the API is found unless a setting says otherwise.
pub const DEFAULT_URL: &str = "https://api.hetzner.cloud/v1";

/// Answers take a second or two; two in a row that never come must leave time for a third within a minute.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(15);
/// A create may take longer than the usual second or two; giving up early only makes it ambiguous (`facts/hetzner.md` 7).
const CREATE_LIMIT: Duration = Duration::from_secs(60);
/// Lists are read in pages of the largest size, and never more of them than this (fault G31).
const MOST_PAGES: u32 = 40;

/// One project of Hetzner Cloud, as its token shows it to one call.
#[derive(Debug)]
pub struct Hetzner {
    chain: Chain,
    base: BaseUrl,
    token: Secret,
    project: Arc<Project>,
}

impl Hetzner {
    /// A project behind a token. Its calls share `project`.
    pub fn new(chain: Chain, base: BaseUrl, token: Secret, project: Arc<Project>) -> Self {
        Self { chain, base, token, project }
    }

    /// How many requests were made, repetitions included.
    pub fn sent(&self) -> u32 {
        self.chain.sent()
    }

    fn draft(&self, method: Method, path: &str, query: &[(&str, &str)]) -> Draft {
        self.base.request(method, path, query).bearer(&self.token)
    }

    /// Sends a request and reads its answer. Boxed, because who holds a future has room for all that it awaits, and thousands may wait.
    fn send<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        repeat: Repeat,
        draft: Draft,
        within: Within,
        read: impl Fn(&http::Response<Bytes>) -> Result<T, HetznerError> + Send + Sync + 'a,
    ) -> BoxFuture<'a, Result<T, HetznerError>> {
        Box::pin(async move {
            let kept = Kept::default();
            let keep = |answer: &http::Response<Bytes>| self.accept(answer).and_then(|()| kept.keep(read(answer)));
            self.exchange(operation, repeat, draft, within, &keep).await?;
            kept.take().ok_or_else(|| HetznerError::unreadable(operation, "nothing was read of it"))
        })
    }

    /// The same whatever is read. In a box of its own it is compiled once.
    fn exchange<'a>(
        &'a self,
        operation: &'static str,
        repeat: Repeat,
        draft: Draft,
        within: Within,
        keep: &'a (dyn Fn(&http::Response<Bytes>) -> Result<(), HetznerError> + Send + Sync),
    ) -> BoxFuture<'a, Result<(), HetznerError>> {
        Box::pin(async move {
            let attempt_limit = if repeat == Repeat::OnlyIfNotApplied { CREATE_LIMIT } else { ATTEMPT_LIMIT };
            let call = Call { operation, request: draft.build()?, repeat, attempt_limit };
            self.chain.repeat(&call, within, keep).await
        })
    }

    /// Reads one JSON answer of a safe request.
    fn fetch<'a, T: DeserializeOwned + Send + 'a>(
        &'a self,
        operation: &'static str,
        draft: Draft,
        within: Within,
    ) -> BoxFuture<'a, Result<T, HetznerError>> {
        self.send(operation, Repeat::Safe, draft, within, decode)
    }

    /// Reads one thing by its path; nothing if Hetzner does not know it.
    fn find_one<'a, T: DeserializeOwned + Send + 'a>(
        &'a self,
        operation: &'static str,
        path: &str,
        within: Within,
    ) -> impl Future<Output = Result<Option<T>, HetznerError>> + Send + 'a {
        let fetched = self.fetch(operation, self.draft(Method::GET, path, &[]), within);
        async { found(fetched.await) }
    }

    /// Reads all pages of a list. `items` takes the items and the next page's number out of one answer.
    async fn fetch_all<P: DeserializeOwned + Send, T>(
        &self,
        operation: &'static str,
        path: &str,
        query: &[(&str, &str)],
        within: Within,
        items: impl Fn(P) -> (Vec<T>, Option<u32>),
    ) -> Result<Vec<T>, HetznerError> {
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let number = page.to_string();
            let paging: &[(&str, &str)] = &[("page", &number), ("per_page", "50")];
            let draft = self.draft(Method::GET, path, &[query, if page == 1 { &paging[1..] } else { paging }].concat());
            let (mut found, next) = items(self.fetch(operation, draft, within).await?);
            all.append(&mut found);
            match next {
                Some(next) if next > page && next <= MOST_PAGES => page = next,
                Some(_) => return Err(HetznerError::Endless(operation)),
                None => return Ok(all),
            }
        }
    }

    fn accept(&self, answer: &http::Response<Bytes>) -> Result<(), HetznerError> {
        if answer.status().is_success() {
            return Ok(());
        }
        Err(HetznerError::refusal(answer, &self.token, self.chain.clock().cloud_unix()))
    }
}

/// What was found, if Hetzner knows it.
fn found<T>(outcome: Result<T, HetznerError>) -> Result<Option<T>, HetznerError> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a JSON body; the error names the place that did not fit, never the content.
fn decode<T: DeserializeOwned>(answer: &http::Response<Bytes>) -> Result<T, HetznerError> {
    serde_json::from_slice(document(answer)?).map_err(|error| unreadable(answer, describe(&error)))
}

/// The body, unless serde would take it for a document of which all that is optional is missing: a list.
fn document(answer: &http::Response<Bytes>) -> Result<&[u8], HetznerError> {
    if answer.body().trim_ascii_start().starts_with(b"[") {
        return Err(unreadable(answer, "the answer is a list instead of a document".to_owned()));
    }
    Ok(answer.body())
}

fn unreadable(answer: &http::Response<Bytes>, what: String) -> HetznerError {
    HetznerError::Unreadable { what, request_id: error::correlation_id(answer.headers()) }
}

/// serde's own text may quote the offending value; the kind and place say enough.
fn describe(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "the answer ends too early",
        serde_json::error::Category::Syntax => "the answer is not JSON",
        serde_json::error::Category::Data | serde_json::error::Category::Io => {
            "the answer has another shape than documented"
        }
    };
    format!("{kind} (line {}, column {})", error.line(), error.column())
}

/// The paging part that every list carries.
#[derive(serde::Deserialize, Default)]
struct Meta {
    #[serde(default)]
    pagination: Option<Pagination>,
}

#[derive(serde::Deserialize)]
struct Pagination {
    #[serde(default)]
    next_page: Option<u32>,
}

impl Meta {
    fn next_page(self) -> Option<u32> {
        self.pagination.and_then(|pagination| pagination.next_page)
    }
}
