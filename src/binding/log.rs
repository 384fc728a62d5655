//! Diagnostic lines on stderr, when `PROVISION_VM_LOG` or `RUST_LOG` asks for them.
//!
//! The filter is `tracing`'s `target=level,...`. Progress lines are printed by `index.js`, so they are left out here. The lines of h2, one
//! for each frame, would drown all others: they are for who names it.
//! The subscriber belongs to the process: the filter of the latest call that names one holds.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Scope};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{Layer, Registry};

use crate::provision::settings::clean;

const PROGRESS: &str = "provision_vm::progress";
const FRAMES: &str = "h2";

static FILTER: OnceLock<Option<Handle<Targets, Registry>>> = OnceLock::new();

/// Lets lines through by this filter from now on. Returns a complaint if it cannot be read.
pub(super) fn set_filter(text: &str) -> Option<String> {
    let Ok(targets) = text.parse::<Targets>() else {
        return Some(format!("The log filter {:?} cannot be read and is ignored", clean(text)));
    };
    let names_frames = targets.iter().any(|(target, _)| target.starts_with(FRAMES));
    let targets = if names_frames { targets } else { targets.with_target(FRAMES, LevelFilter::WARN) };
    let targets = targets.with_target(PROGRESS, LevelFilter::OFF);
    let handle = FILTER.get_or_init(|| install(targets.clone()));
    if let Some(handle) = handle {
        // It fails only when the subscriber is gone, and that lives as long as the process.
        let _ = handle.reload(targets);
    }
    None
}

fn install(targets: Targets) -> Option<Handle<Targets, Registry>> {
    let (filter, handle) = reload::Layer::new(targets);
    let subscriber = Registry::default().with(filter).with(Stderr);
    // Another user of `tracing` in this image may have been faster; then its subscriber stays.
    tracing::subscriber::set_global_default(subscriber).ok().map(|()| handle)
}

/// Writes one line an event.
struct Stderr;

/// The fields of a span as text, kept beside it: they say whose line a line is.
struct SpanText(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Stderr {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = format!(" {}:", attributes.metadata().name());
        attributes.record(&mut Text(&mut text));
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanText(text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = format!("{} {}", event.metadata().level(), event.metadata().target());
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(SpanText(text)) = span.extensions().get() {
                line.push_str(text);
            }
        }
        event.record(&mut Text(&mut line));
        line.push('\n');
        // A closed stderr is no reason to fail.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let value = clean(&format!("{value:?}"));
        // Writing to a string cannot fail.
        let _ = if field.name() == "message" { write!(self.0, " {value}") } else { write!(self.0, " {field}={value}") };
    }
}
