//! What surrounds every exchange. The order is explained in the room's head.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::retry::{self, Judge, Patience, Repeat};
use super::{Chance, Clock, Instant, RetryBudget, Transport, TransportError, sleep, timeout_at};

/// Shorter ones could be anything.
const LEAST_CREDENTIAL: usize = 8;

/// One request of an API, and how it may be treated.
#[derive(Debug)]
pub struct Call {
    /// The operation's name for traces, such as `create server`.
    pub operation: &'static str,
    /// The request. Its authorization header must be marked sensitive.
    pub request: http::Request<Bytes>,
    /// What a repetition would do.
    pub repeat: Repeat,
    /// The longest that one try may take.
    pub attempt_limit: Duration,
}

/// How much time and patience the caller has.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// No try is begun or continued after this moment.
    pub deadline: Instant,
    /// How often to try.
    pub patience: Patience,
}

/// The way to one API: the exchange with all that surrounds it, and a count of the requests made.
pub struct Chain {
    transport: Arc<dyn Transport>,
    clock: Arc<Clock>,
    chance: Arc<Chance>,
    budget: Arc<RetryBudget>,
    sent: AtomicU32,
}

impl Chain {
    /// A way to one API, whose answers set `clock`.
    pub fn new(
        transport: Arc<dyn Transport>,
        clock: Arc<Clock>,
        chance: Arc<Chance>,
        budget: Arc<RetryBudget>,
    ) -> Self {
        Self { transport, clock, chance, budget, sent: AtomicU32::new(0) }
    }

    /// The clock that this way keeps.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many requests went this way, repetitions included.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Makes the call until `read` has an answer, the failure is final, or time or patience end.
    ///
    /// `read` is a pure function of the answer; it turns refusals and unreadable bodies into the room's error.
    pub async fn call<T, E>(
        &self,
        call: &Call,
        within: Within,
        read: impl Fn(&http::Response<Bytes>) -> Result<T, E> + Send + Sync,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<TransportError> + Judge + std::fmt::Display + Send,
    {
        let kept = Kept::default();
        self.repeat(call, within, &|answer| kept.keep(read(answer))).await?;
        let nothing = || TransportError::Broken { host: host_of(&call.request), why: "nothing was read".to_owned() };
        kept.take().ok_or_else(|| nothing().into())
    }

    /// The loop of [`Chain::call`], which is the same whatever is read: it is compiled once for each room. `keep` has to
    /// keep what it reads, see [`Kept`].
    pub async fn repeat<E>(
        &self,
        call: &Call,
        within: Within,
        keep: &(dyn Fn(&http::Response<Bytes>) -> Result<(), E> + Send + Sync),
    ) -> Result<(), E>
    where
        E: From<TransportError> + Judge + std::fmt::Display + Send,
    {
        let (mut tried, mut before) = (0, None);
        loop {
            tried += 1;
            let error =
                match self.attempt(call, within.deadline).await.map_err(E::from).and_then(|answer| keep(&answer)) {
                    Ok(()) => {
                        self.budget.succeeded(tried);
                        return Ok(());
                    }
                    Err(error) => error,
                };
            // A try that the deadline cut short says less than the one before it. Of a create every try counts, since any may
            // have been applied.
            let was_cut = self.clock.now() >= within.deadline && call.repeat == Repeat::Safe;
            let error = if was_cut { before.take().unwrap_or(error) } else { error };
            let opinion = error.opinion();
            let fraction = self.chance.fraction();
            let Some(pause) = retry::pause(opinion, call.repeat, within.patience, tried, fraction) else {
                tracing::debug!(operation = call.operation, tried, %error, "gave up");
                return Err(error);
            };
            if self.clock.now() + pause >= within.deadline {
                tracing::debug!(operation = call.operation, tried, %error, "no time for another try");
                return Err(error);
            }
            if within.patience != Patience::UntilDeadline && !self.budget.take() {
                tracing::debug!(operation = call.operation, tried, %error, "the process has no retries left");
                return Err(error);
            }
            tracing::debug!(operation = call.operation, tried, %error, ?pause, "trying again");
            before = Some(error);
            sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call, deadline: Instant) -> Result<http::Response<Bytes>, TransportError> {
        let host = host_of(&call.request);
        let now = self.clock.now();
        if now >= deadline {
            return Err(TransportError::OutOfTime { host });
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(operation = call.operation, method = %call.request.method(), path = call.request.uri().path(), "request");
        let limit = deadline.min(now + call.attempt_limit);
        let answer = timeout_at(limit, self.transport.exchange(call.request.clone())).await;
        let answer = answer.unwrap_or_else(|| Err(TransportError::Timeout { host: host.clone() }))?;
        tracing::debug!(operation = call.operation, status = answer.status().as_u16(), "answer");
        if answer.status().is_redirection() {
            return Err(TransportError::Redirect { host });
        }
        // A page that a proxy wrote has the proxy's time.
        if answer.status().is_success() {
            self.clock.observe(answer.headers());
        }
        Ok(without_credential(&call.request, answer))
    }
}

/// An answer that repeats the credential of its own request loses it here, in its headers and in its body, where letters may
/// be written as JSON's escapes: any text of it may end up in an error.
fn without_credential(request: &http::Request<Bytes>, mut answer: http::Response<Bytes>) -> http::Response<Bytes> {
    let header = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let credential = header.and_then(|value| value.split_once(' ')).map(|(_, credential)| credential.as_bytes());
    let Some(credential) = credential.filter(|credential| credential.len() >= LEAST_CREDENTIAL) else { return answer };
    for value in answer.headers_mut().values_mut() {
        if find(value.as_bytes(), credential).is_some() {
            *value = http::HeaderValue::from_static("***");
        }
    }
    if find(answer.body(), credential).is_none() {
        return answer;
    }
    answer.map(|body| {
        let (mut rest, mut clean) = (&body[..], Vec::with_capacity(body.len()));
        while let Some(found) = find(rest, credential) {
            clean.extend_from_slice(&rest[..found.start]);
            clean.extend_from_slice(b"***");
            rest = &rest[found.end..];
        }
        clean.extend_from_slice(rest);
        clean.into()
    })
}

/// Where a text stands in another one, each of its letters as it is or as an escape.
fn find(text: &[u8], wanted: &[u8]) -> Option<Range<usize>> {
    (0..text.len()).find_map(|from| {
        let end = wanted.iter().try_fold(from, |at, letter| Some(at + length_of(text.get(at..)?, *letter)?))?;
        Some(from..end)
    })
}

/// How many bytes at the beginning of a text stand for this letter.
fn length_of(text: &[u8], letter: u8) -> Option<usize> {
    if text.first() == Some(&letter) {
        return Some(1);
    }
    let escape = text.strip_prefix(b"\\u").and_then(|digits| std::str::from_utf8(digits.get(..4)?).ok());
    match escape {
        Some(digits) => (u32::from_str_radix(digits, 16) == Ok(letter.into())).then_some(6),
        None => text.strip_prefix(b"\\").filter(|rest| rest.first() == Some(&letter)).map(|_| 2),
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("sent", &self.sent()).finish_non_exhaustive()
    }
}

/// Where an answer is kept that was read within a loop.
pub struct Kept<T>(Mutex<Option<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Kept<T> {
    /// Keeps what was read, if it could be.
    pub fn keep<E>(&self, read: Result<T, E>) -> Result<(), E> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(read?);
        Ok(())
    }

    /// What was kept. It is there once the loop has succeeded; the type does not know it.
    pub fn take(self) -> Option<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Host and port of a request, for messages.
pub(super) fn host_of(request: &http::Request<Bytes>) -> String {
    request.uri().authority().map_or_else(String::new, |authority| {
        // Never user and password, should somebody have written them into a base URL.
        authority.port_u16().map_or_else(|| authority.host().to_owned(), |port| format!("{}:{port}", authority.host()))
    })
}
