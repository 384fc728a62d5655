//! Spans, for who watches many services at once: one for a call, one for each of its steps, one for each request.
//!
//! The ids are those of W3C Trace Context, the names of attributes those of OpenTelemetry's conventions for HTTP clients. Who does not ask
//! for them pays nothing: there is no tracer. No span holds a header, a body or a query.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::account::Account;
use super::chain;
use super::clock::{Chance, Instant, now, unix_time};

/// The place in somebody's trace that a call belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: 32 hexadecimal digits.
    pub trace: String,
    /// The span above: 16 hexadecimal digits.
    pub span: String,
}

impl TraceContext {
    /// Reads a `traceparent`, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01` (W3C Trace Context, 3.2).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_sound = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        // Of a version to come the first four parts are the same. Zeros alone are no id.
        let is_known = version != "ff" && (version != "00" || parts.next().is_none());
        let is_set = [trace, span].iter().all(|id| id.bytes().any(|byte| byte != b'0'));
        (is_sound && is_known && is_set).then(|| Self { trace: trace.to_owned(), span: span.to_owned() })
    }
}

/// Something that took its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span that it is part of.
    pub parent: Option<String>,
    /// What was done.
    pub name: String,
    /// Whether somebody else was asked.
    pub is_client: bool,
    /// When it began, since 1970 by this machine's clock.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// What else is to be said of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Hears of spans as they end.
type Ear = Box<dyn Fn(Span) + Send + Sync>;

/// Finds who hears of a request that begins now, if anybody asked for spans: a call that many wait for is told to one that is still there.
pub type FindTracer = Box<dyn Fn() -> Option<Arc<Tracer>> + Send + Sync>;

/// The spans of one call.
pub struct Tracer {
    context: TraceContext,
    parent: Option<String>,
    name: String,
    /// The same moment by both clocks, so that lengths are those of the monotonic one.
    began: (Instant, Duration),
    chance: Chance,
    state: Mutex<State>,
    ear: Ear,
}

#[derive(Default)]
struct State {
    step: Option<Step>,
    attributes: Vec<(&'static str, Attribute)>,
    has_ended: bool,
}

/// How a call failed.
#[derive(Debug)]
pub struct Mishap {
    /// Its code.
    pub code: &'static str,
    /// What was tried, and what happened.
    pub message: String,
    /// How many things may be left.
    pub left: usize,
}

/// A part of the call, one after another.
struct Step {
    id: String,
    name: &'static str,
    began: Instant,
    /// It undoes what failed before it, and is not why the call fails.
    is_undo: bool,
}

impl Tracer {
    /// Begins the span of a call, within somebody's or as a trace of its own.
    pub fn begin(name: String, within: Option<TraceContext>, ear: Ear) -> Self {
        let chance = Chance::from_system();
        let (trace, parent) = match within {
            Some(TraceContext { trace, span }) => (trace, Some(span)),
            None => (format!("{}{}", chance.id(), chance.id()), None),
        };
        let context = TraceContext { trace, span: chance.id() };
        Self { context, parent, name, began: (now(), unix_time()), chance, state: Mutex::default(), ear }
    }

    /// Where something belongs that is part of this call.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Says something of the call as a whole.
    pub fn note(&self, name: &'static str, value: impl Into<Attribute>) {
        let mut state = self.state();
        state.attributes.retain(|(known, _)| *known != name);
        state.attributes.push((name, value.into()));
    }

    /// The step before ends, and this one begins.
    pub fn enter(&self, step: &'static str) {
        self.proceed(step, None);
    }

    /// The step before failed, and this one begins, which undoes it and those before it.
    pub fn undo(&self, step: &'static str, why: String) {
        self.proceed(step, Some(why));
    }

    fn proceed(&self, name: &'static str, why: Option<String>) {
        let begun = Step { id: self.chance.id(), name, began: now(), is_undo: why.is_some() };
        let ended = {
            let mut state = self.state();
            if state.has_ended {
                return;
            }
            state.step.replace(begun)
        };
        self.tell_step(ended, why);
    }

    /// Whether the call is over, so that nothing more is told.
    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// The call ends, as it failed if it did. What comes after it, such as an undo that goes on, is not told.
    pub fn end(&self, failed: Option<Mishap>) {
        let (step, mut attributes) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.has_ended, true) {
                return;
            }
            (state.step.take(), std::mem::take(&mut state.attributes))
        };
        let is_undo = step.as_ref().is_some_and(|step| step.is_undo);
        let why = failed.as_ref().and_then(|Mishap { message, left, .. }| match (is_undo, left) {
            (false, _) => Some(message.clone()),
            (true, 0) => None,
            (true, left) => Some(format!("{left} left behind")),
        });
        self.tell_step(step, why);
        if let Some(Mishap { code, left, .. }) = &failed {
            attributes.push(("error.type", (*code).into()));
            if *left > 0 {
                attributes.push(("provision_vm.leftovers", Attribute::Number(*left as u64)));
            }
        }
        (self.ear)(Span {
            trace: self.context.trace.clone(),
            id: self.context.span.clone(),
            parent: self.parent.clone(),
            name: self.name.clone(),
            is_client: false,
            began: self.began.1,
            ended: self.time_of(now()),
            attributes,
            error: failed.map(|failed| failed.message),
        });
    }

    /// The id of the step that the call is at, or of the call.
    pub(super) fn here(&self) -> String {
        self.state().step.as_ref().map_or_else(|| self.context.span.clone(), |step| step.id.clone())
    }

    /// A request that began then, as the part of the call that `parent` is, has had its answer, or has got none and why.
    pub(super) fn requested(&self, parent: String, asked: &Account<'_>, outcome: Result<u16, (&str, &dyn Display)>) {
        if self.has_ended() {
            return;
        }
        let (request, mut attributes) = (&asked.call.request, Vec::with_capacity(7));
        let uri = request.uri();
        let path = format!("{}://{}{}", uri.scheme_str().unwrap_or_default(), chain::host_of(uri), uri.path());
        attributes.push(("http.request.method", request.method().as_str().into()));
        attributes.push(("server.address", uri.host().unwrap_or_default().trim_matches(['[', ']']).into()));
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        attributes.push(("server.port", Attribute::Number(uri.port_u16().unwrap_or(usual).into())));
        if asked.repetition > 0 {
            attributes.push(("http.request.resend_count", Attribute::Number(asked.repetition.into())));
        }
        attributes.push(("url.full", Attribute::Text(path)));
        let error = match outcome {
            Ok(status) => {
                attributes.push(("http.response.status_code", Attribute::Number(status.into())));
                // A redirect is not followed.
                (status >= 300).then(|| (status.to_string(), format!("the answer is {status}")))
            }
            Err((kind, why)) => Some((kind.to_owned(), why.to_string())),
        };
        if let Some((kind, _)) = &error {
            attributes.push(("error.type", kind.as_str().into()));
        }
        let error = error.map(|(_, message)| message);
        self.tell(self.chance.id(), parent, asked.call.operation, (asked.began, now()), true, attributes, error);
    }

    fn tell_step(&self, step: Option<Step>, error: Option<String>) {
        let Some(Step { id, name, began, .. }) = step else { return };
        self.tell(id, self.context.span.clone(), name, (began, now()), false, Vec::new(), error);
    }

    #[expect(clippy::too_many_arguments, reason = "a span has that many parts")]
    fn tell(
        &self,
        id: String,
        parent: String,
        name: &'static str,
        (began, ended): (Instant, Instant),
        is_client: bool,
        attributes: Vec<(&'static str, Attribute)>,
        error: Option<String>,
    ) {
        (self.ear)(Span {
            trace: self.context.trace.clone(),
            id,
            parent: Some(parent),
            name: name.to_owned(),
            is_client,
            began: self.time_of(began),
            ended: self.time_of(ended),
            attributes,
            error,
        });
    }

    fn time_of(&self, moment: Instant) -> Duration {
        self.began.1 + moment.saturating_duration_since(self.began.0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("context", &self.context).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_recommendation_says() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let zero = "0".repeat(32);
        for (text, is_read) in [
            (format!("00-{trace}-{span}-01"), true),
            (format!(" 00-{trace}-{span}-00 "), true),
            (format!("01-{trace}-{span}-01-more"), true),
            (format!("00-{trace}-{span}-01-more"), false),
            (format!("ff-{trace}-{span}-01"), false),
            (format!("00-{zero}-{span}-01"), false),
            (format!("00-{trace}-{}-01", &zero[..16]), false),
            (format!("00-{}-{span}-01", trace.to_uppercase()), false),
            (format!("00-{trace}-{span}"), false),
            (String::new(), false),
        ] {
            assert_eq!(TraceContext::parse(&text).is_some(), is_read, "{text}");
        }
    }
}
