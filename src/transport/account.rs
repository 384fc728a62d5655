//! What is told and counted of a request, however it ends.

use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;

use super::{Call, Clock, FindTracer, Instant, Tracer, TransportError, chain, metrics};

/// A request that is under way. One that is dropped was given up with its call, and is told and counted as that.
pub(super) struct Account<'a> {
    pub(super) call: &'a Call,
    /// How many tries came before it.
    pub(super) repetition: u32,
    pub(super) began: Instant,
    clock: &'a Clock,
    find_tracer: Option<&'a FindTracer>,
    /// Who hears of it, and what it is part of: when it ends, its call may be elsewhere.
    told: Option<(Arc<Tracer>, String)>,
    is_closed: bool,
}

impl<'a> Account<'a> {
    /// A request that is sent now, after so many that failed.
    pub(super) fn open(call: &'a Call, repetition: u32, clock: &'a Clock, find_tracer: Option<&'a FindTracer>) -> Self {
        if repetition > 0 {
            metrics::retried();
        }
        Self { call, repetition, began: clock.now(), clock, find_tracer, told: listener(find_tracer), is_closed: false }
    }

    /// It has had its answer, or has got none.
    pub(super) fn close(mut self, answer: Result<&http::Response<Bytes>, &TransportError>) {
        match answer {
            Ok(answer) => self.tell(Ok(answer.status().as_u16())),
            Err(error) => self.tell(Err((error.kind(), error))),
        }
    }

    fn tell(&mut self, outcome: Result<u16, (&'static str, &dyn Display)>) {
        self.is_closed = true;
        let (request, took) = (&self.call.request, self.clock.now().saturating_duration_since(self.began));
        metrics::requested(&chain::host_of(request.uri()), request.method(), outcome.map_err(|(kind, _)| kind), took);
        // Who began it may have left, and others wait for the same.
        let told = self.told.take().filter(|(tracer, _)| !tracer.has_ended()).or_else(|| listener(self.find_tracer));
        if let Some((tracer, step)) = told {
            tracer.requested(step, self, outcome);
        }
    }
}

fn listener(find: Option<&FindTracer>) -> Option<(Arc<Tracer>, String)> {
    let tracer = find.and_then(|find| find())?;
    let here = tracer.here();
    Some((tracer, here))
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.tell(Err(("cancelled", &"given up before its answer")));
        }
    }
}
