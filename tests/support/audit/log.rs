//! Hears every trace line at the most verbose level, and looks for secrets in it (I06).

use std::cell::RefCell;
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
}

/// From now on this thread's lines are held against this world's secrets.
pub fn watch(shared: &Arc<Shared>) {
    static SET: Once = Once::new();
    // Another subscriber may be there already, in a test that wants its own.
    SET.call_once(|| drop(tracing::subscriber::set_global_default(Ears)));
    WATCHED.with_borrow_mut(|watched| *watched = Arc::downgrade(shared));
}

struct Ears;

impl Subscriber for Ears {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        listen(|line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        listen(|line| values.record(line));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        listen(|line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
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
