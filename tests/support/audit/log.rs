//! Hears every trace line at the most verbose level: looks for secrets in it (I06), and knows from it in which step each
//! call is. Events tell the step as well, but only with the next thing that there is to say.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Once, Weak};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::Shared;

thread_local! {
    /// The world whose secrets must not be in what this thread logs. Tests run on one thread each.
    static WATCHED: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
    /// The spans that are entered at this moment, innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The step that was named last in each span: a call's work has a span of its own.
    static STEPS: RefCell<BTreeMap<u64, String>> = const { RefCell::new(BTreeMap::new()) };
    static SPANS: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread's lines are held against this world's secrets.
pub fn watch(shared: &Arc<Shared>) {
    static SET: Once = Once::new();
    // Another subscriber may be there already, in a test that wants its own.
    SET.call_once(|| drop(tracing::subscriber::set_global_default(Ears)));
    WATCHED.with_borrow_mut(|watched| *watched = Arc::downgrade(shared));
    ENTERED.with_borrow_mut(Vec::clear);
    STEPS.with_borrow_mut(BTreeMap::clear);
}

/// The step of the call that is at work on this thread at this moment, if one is.
pub fn step() -> Option<String> {
    ENTERED.with_borrow(|entered| STEPS.with_borrow(|steps| entered.iter().rev().find_map(|id| steps.get(id)).cloned()))
}

struct Ears;

impl Subscriber for Ears {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        listen(|line| span.record(line));
        SPANS.set(SPANS.get() + 1);
        Id::from_u64(SPANS.get())
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        listen(|line| values.record(line));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        listen(|line| event.record(line));
        event.record(&mut StepField);
    }

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            if let Some(at) = entered.iter().rposition(|entered| *entered == id.into_u64()) {
                entered.remove(at);
            }
        });
    }
}

/// Takes the step down that a line names.
struct StepField;

impl Visit for StepField {
    fn record_str(&mut self, field: &Field, value: &str) {
        let span = ENTERED.with_borrow(|entered| entered.last().copied());
        if let Some(span) = span.filter(|_| field.name() == "step") {
            STEPS.with_borrow_mut(|steps| drop(steps.insert(span, value.to_owned())));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_str(&mut self, _: &Field, value: &str) {
        self.0.push_str(value);
        self.0.push(' ');
    }

    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{value:?} ");
    }
}

fn listen(record: impl FnOnce(&mut Line<'_>)) {
    let Some(shared) = WATCHED.with_borrow(Weak::upgrade) else { return };
    LINE.with_borrow_mut(|line| {
        line.clear();
        record(&mut Line(line));
        shared.audit().search("a log line", line.as_bytes(), &[]);
    });
}
