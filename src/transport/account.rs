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
    /// Who hears of it, and what it is part of: when it ends, its call may be elsewhere.
    told: Option<(Arc<Tracer>, String)>,
    is_closed: bool,
}

impl<'a> Account<'a> {
    /// A request that is sent now.
    pub(super) fn open(call: &'a Call, repetition: u32, clock: &'a Clock, find_tracer: Option<&FindTracer>) -> Self {
        let told = find_tracer.and_then(|find| find()).map(|tracer| {
            let here = tracer.here();
            (tracer, here)
        });
        Self { call, repetition, began: clock.now(), clock, told, is_closed: false }
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
        if let Some((tracer, step)) = self.told.take() {
            tracer.requested(step, self, outcome);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if !self.is_closed {
            self.tell(Err(("cancelled", &"given up before its answer")));
        }
    }
}
