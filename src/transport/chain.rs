//! What surrounds every exchange. The order is explained in the room's head.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::account::Account;
use super::retry::{self, Judge, Opinion, Patience, Repeat};
use super::{
    Admission, Chance, Clock, Fate, FindTracer, Instant, Pass, RateBudget, RetryBudget, Transport, TransportError,
    Urgency, sleep, timeout_at,
};

/// The longest that a shared look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// Shorter ones could be anything.
const LEAST_CREDENTIAL: usize = 8;

/// One try at something.
type Attempt<'a, E> = BoxFuture<'a, Result<(), E>>;

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
    /// How pressing it is, for when the token has few requests left.
    pub urgency: Urgency,
}

/// The way to one API: the exchange with all that surrounds it, and a count of the requests made.
pub struct Chain {
    transport: Arc<dyn Transport>,
    clock: Arc<Clock>,
    /// The clock of all calls with the same token.
    common: Arc<Clock>,
    chance: Arc<Chance>,
    budget: Arc<RetryBudget>,
    rate: Arc<RateBudget>,
    admission: Option<Arc<Admission>>,
    tracer: Option<FindTracer>,
    sent: AtomicU32,
}

impl Chain {
    /// A way to one API for one call, whose answers set `clock`. `rate` and `common` belong to all calls with the same token.
    pub fn new(
        transport: Arc<dyn Transport>,
        clock: Arc<Clock>,
        chance: Arc<Chance>,
        budget: Arc<RetryBudget>,
        rate: Arc<RateBudget>,
        common: Arc<Clock>,
    ) -> Self {
        Self { transport, clock, common, chance, budget, rate, admission: None, tracer: None, sent: AtomicU32::new(0) }
    }

    /// The same for a job that was let in: what it asks for was reserved.
    #[must_use]
    pub fn admitted(self, admission: Arc<Admission>) -> Self {
        Self { admission: Some(admission), ..self }
    }

    /// The same, with each request told to somebody.
    #[must_use]
    pub fn traced(self, find: FindTracer) -> Self {
        Self { tracer: Some(find), ..self }
    }

    /// What its token may ask for.
    pub fn rate(&self) -> &Arc<RateBudget> {
        &self.rate
    }

    /// The clock that this way keeps.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Sets the clock by what other calls with the same token were answered.
    pub fn catch_up(&self) {
        self.clock.learn_from(&self.common);
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
        kept.take().ok_or_else(|| nothing_kept(host_of(call.request.uri())).into())
    }

    /// Asks until there is an answer, the failure is final, or time or patience end: for what is asked through others as well, such as
    /// a shared look, and may be asked again. `host` is for messages.
    pub async fn ask<'a, T, E>(
        &self,
        operation: &'static str,
        host: &'static str,
        within: Within,
        ask: &(dyn Fn() -> BoxFuture<'a, Result<T, E>> + Send + Sync),
    ) -> Result<T, E>
    where
        T: Send,
        E: From<TransportError> + Judge + std::fmt::Display + Send,
    {
        let kept = Kept::default();
        let attempt = || -> Attempt<'_, E> {
            Box::pin(async {
                let late = || TransportError::Timeout { host: host.to_owned() };
                let answer = timeout_at(within.deadline, ask()).await;
                kept.keep(answer.unwrap_or_else(|| Err(late().into())))
            })
        };
        self.persist(operation, Repeat::Safe, within, &attempt).await?;
        kept.take().ok_or_else(|| nothing_kept(host.to_owned()).into())
    }

    /// Waits until the token's budget has a place for an order, so that the order itself, once it is declared, goes out at once.
    pub async fn may_order(&self, deadline: Instant) -> Option<Pass> {
        self.rate.pass(Urgency::Order, &self.clock, deadline).await
    }

    /// The limits of one look that begins now and serves whoever waits: whose call makes it is chance.
    pub fn within_a_look(&self) -> Within {
        let deadline = self.clock.now() + LOOK_LIMIT;
        Within { deadline, patience: Patience::Tries(1), urgency: Urgency::Look }
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
        let sent = AtomicU32::new(0);
        let attempt = || -> Attempt<'_, E> {
            Box::pin(async {
                self.attempt(call, &sent, within).await.map_err(E::from).and_then(|answer| keep(&answer))
            })
        };
        self.persist(call.operation, call.repeat, within, &attempt).await
    }

    /// Tries until an attempt succeeds, its failure is final, or time or patience end: the strategy of [`Chain::repeat`], for
    /// whatever is attempted.
    async fn persist<'a, E>(
        &self,
        operation: &'static str,
        repeat: Repeat,
        within: Within,
        attempt: &(dyn Fn() -> Attempt<'a, E> + Send + Sync),
    ) -> Result<(), E>
    where
        E: Judge + std::fmt::Display + Send,
    {
        let (mut tried, mut before) = (0, None);
        loop {
            tried += 1;
            let error = match attempt().await {
                Ok(()) => {
                    self.budget.succeeded(tried);
                    return Ok(());
                }
                Err(error) => error,
            };
            // A try that the deadline cut short says less than the one before it. Of a create every try counts, since any may
            // have been applied.
            let was_cut = self.clock.now() >= within.deadline && repeat == Repeat::Safe;
            let error = if was_cut { before.take().unwrap_or(error) } else { error };
            let fraction = self.chance.fraction();
            let Some(pause) = retry::pause(error.opinion(), repeat, within.patience, tried, fraction) else {
                tracing::debug!(operation, tried, %error, "gave up");
                return Err(error);
            };
            if self.clock.now() + pause >= within.deadline {
                tracing::debug!(operation, tried, %error, "no time for another try");
                return Err(error);
            }
            // Those are paced by the budget of the token.
            let is_slow = matches!(error.opinion(), Opinion::Slow(_));
            if within.patience != Patience::UntilDeadline && !is_slow && !self.budget.take() {
                tracing::debug!(operation, tried, %error, "the process has no retries left");
                return Err(error);
            }
            tracing::debug!(operation, tried, %error, ?pause, "trying again");
            before = Some(error);
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        call: &Call,
        sent: &AtomicU32,
        within: Within,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let (host, deadline) = (host_of(call.request.uri()), within.deadline);
        if self.clock.now() >= deadline {
            return Err(TransportError::OutOfTime { host });
        }
        let Some(_pass) = self.rate.pass(within.urgency, &self.clock, deadline).await else {
            return Err(TransportError::OverBudget { host });
        };
        let now = self.clock.now();
        self.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(admission) = &self.admission {
            admission.spends();
        }
        let in_flight = self.rate.sends(now);
        let account = Account::open(call, sent.fetch_add(1, Ordering::Relaxed), &self.clock, self.tracer.as_ref());
        tracing::debug!(operation = call.operation, method = %call.request.method(), path = call.request.uri().path(), "request");
        let limit = deadline.min(now + call.attempt_limit);
        let answer = timeout_at(limit, self.transport.exchange(call.request.clone())).await;
        let answer = answer.unwrap_or_else(|| Err(TransportError::Timeout { host: host.clone() }));
        account.close(answer.as_ref());
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if error.fate() == Fate::NotSent {
                    in_flight.was_not_sent();
                }
                return Err(error);
            }
        };
        in_flight.answered(&answer, self.clock.now());
        tracing::debug!(operation = call.operation, status = answer.status().as_u16(), "answer");
        if answer.status().is_redirection() {
            return Err(TransportError::Redirect { host });
        }
        // A page that a proxy wrote has the proxy's time.
        if answer.status().is_success() {
            let at = self.clock.now();
            self.clock.observe_at(answer.headers(), at);
            self.common.observe_at(answer.headers(), at);
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
    let first = *wanted.first()?;
    let mut at = 0;
    // Answers are megabytes: most of their letters are passed at a glance.
    while let Some(skipped) = text[at..].iter().position(|byte| *byte == first || *byte == b'\\') {
        let from = at + skipped;
        let end = wanted.iter().try_fold(from, |at, letter| Some(at + length_of(text.get(at..)?, *letter)?));
        if let Some(end) = end {
            return Some(from..end);
        }
        at = from + 1;
    }
    None
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

/// A loop that succeeded has kept something; the type does not know it.
fn nothing_kept(host: String) -> TransportError {
    TransportError::Broken { host, why: "nothing was read".to_owned() }
}

/// Host and port of a request, for messages.
pub(super) fn host_of(uri: &http::Uri) -> String {
    uri.authority().map_or_else(String::new, |authority| {
        // Never user and password, should somebody have written them into a base URL.
        authority.port_u16().map_or_else(|| authority.host().to_owned(), |port| format!("{}:{port}", authority.host()))
    })
}
