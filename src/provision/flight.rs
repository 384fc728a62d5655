//! One flight for one job in one process (fault Q01).
//!
//! Calls with the same job and the same settings board the flight that is under way, hear what it tells from then on, and
//! land with its outcome. Who gives up leaves it; only the last to leave ends it. Nothing runs by itself here: the
//! flight moves as long as at least one of its passengers is polled, and is gone with the last one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::sync::CancellationToken;

use super::allowance::Allowance;
use super::error::{Cause, ProvisionError};
use super::event::{Event, Observer, quietly};
use super::settings::Settings;
use super::{Outcome, Params};
use crate::secret::Secret;
use crate::transport::{Instant, Tracer, now, sleep_until};

/// The flights of a process.
#[derive(Default)]
pub(super) struct Flights(Mutex<Vec<Weak<Flight>>>);

/// A job under way.
pub(super) struct Flight {
    params: Arc<Params>,
    settings: Arc<Settings>,
    /// What it may cost together with others: who has another limit, or none, is no passenger of it.
    allowance: Option<Arc<Allowance>>,
    cancel: CancellationToken,
    cabin: Arc<Cabin>,
    journey: Shared<BoxFuture<'static, Outcome>>,
}

/// One caller on board. Dropping it leaves the flight.
struct Passenger {
    flight: Arc<Flight>,
    seat: u64,
}

impl Flights {
    /// Lands with the outcome of the job: on the flight that is under way, or on one that `depart` begins.
    pub(super) async fn take(
        &self,
        params: &Arc<Params>,
        settings: &Arc<Settings>,
        allowance: Option<&Arc<Allowance>>,
        cancel: CancellationToken,
        observer: Arc<dyn Observer>,
        depart: impl Fn(CancellationToken, Arc<dyn Observer>, Duration) -> BoxFuture<'static, Outcome>,
    ) -> Outcome {
        // The time of a call counts from here, also while it waits for a flight that is being undone.
        let deadline = now() + settings.timeout;
        loop {
            let time_left = deadline.saturating_duration_since(now());
            let depart = |cancel, observer| depart(cancel, observer, time_left);
            let Some(passenger) = self.board(params, settings, allowance, &observer, depart) else {
                // The last one was given up and is being undone; the name is free when it has landed.
                let Some(ending) = self.find(params, settings, allowance) else { continue };
                // In a box, since it is rare and a thousand may be on board.
                ending.has_ended(&cancel, deadline).boxed().await.map_err(ProvisionError::at_the_door)?;
                continue;
            };
            return passenger.travel(cancel).await;
        }
    }

    /// A seat on the flight of this job; `None` while its flight is one that was given up.
    fn board(
        &self,
        params: &Arc<Params>,
        settings: &Arc<Settings>,
        allowance: Option<&Arc<Allowance>>,
        observer: &Arc<dyn Observer>,
        depart: impl Fn(CancellationToken, Arc<dyn Observer>) -> BoxFuture<'static, Outcome>,
    ) -> Option<Passenger> {
        let mut flights = self.lock();
        flights.retain(|flight| flight.upgrade().is_some_and(|flight| !flight.has_landed()));
        let flight = find(&flights, params, settings, allowance).unwrap_or_else(|| {
            let (cancel, cabin) = (CancellationToken::new(), Arc::new(Cabin::default()));
            let journey = depart(cancel.clone(), cabin.clone()).shared();
            let (params, settings, allowance) = (params.clone(), settings.clone(), allowance.cloned());
            let flight = Arc::new(Flight { params, settings, allowance, cancel, cabin, journey });
            flights.push(Arc::downgrade(&flight));
            flight
        });
        let seat = flight.cabin.admit(observer.clone(), &flight.cancel)?;
        Some(Passenger { flight, seat })
    }

    fn find(
        &self,
        params: &Params,
        settings: &Arc<Settings>,
        allowance: Option<&Arc<Allowance>>,
    ) -> Option<Arc<Flight>> {
        find(&self.lock(), params, settings, allowance)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(
    flights: &[Weak<Flight>],
    params: &Params,
    settings: &Arc<Settings>,
    allowance: Option<&Arc<Allowance>>,
) -> Option<Arc<Flight>> {
    let of = |allowance: Option<&Arc<Allowance>>| allowance.map(Arc::as_ptr);
    let mut flying = flights.iter().filter_map(Weak::upgrade).filter(|flight| !flight.has_landed());
    flying.find(|flight| {
        *flight.params == *params && flight.settings == *settings && of(flight.allowance.as_ref()) == of(allowance)
    })
}

impl Flight {
    /// Waits until it has landed, unless the caller gives up or its time is over first.
    async fn has_ended(&self, cancel: &CancellationToken, deadline: Instant) -> Result<(), Cause> {
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Cause::Aborted),
            () = sleep_until(deadline) => Err(Cause::Deadline),
            _ = self.journey.clone() => Ok(()),
        }
    }

    fn has_landed(&self) -> bool {
        self.journey.peek().is_some()
    }
}

impl Passenger {
    async fn travel(self, cancel: CancellationToken) -> Outcome {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            outcome = self.flight.journey.clone() => return outcome,
        }
        if self.flight.cabin.end_for(self.seat, &self.flight.cancel) {
            return self.flight.journey.clone().await;
        }
        // Others still want the machine, so there is nothing to undo.
        Err(ProvisionError::at_the_door(Cause::Aborted))
    }
}

impl Drop for Passenger {
    fn drop(&mut self) {
        self.flight.cabin.dismiss(self.seat);
    }
}

/// Passes on what the flight tells to all who are on board.
#[derive(Default)]
struct Cabin(Mutex<Seats>);

#[derive(Default)]
struct Seats {
    taken: Vec<(u64, Arc<dyn Observer>)>,
    next: u64,
    /// What was minted so far: who boards late has to mask it as well.
    secrets: Vec<Secret>,
}

impl Cabin {
    /// Gives a seat, unless the flight was given up.
    fn admit(&self, observer: Arc<dyn Observer>, cancel: &CancellationToken) -> Option<u64> {
        let mut seats = self.lock();
        if cancel.is_cancelled() {
            return None;
        }
        for secret in &seats.secrets {
            quietly(|| observer.secret(secret));
        }
        seats.next += 1;
        let seat = seats.next;
        seats.taken.push((seat, observer));
        Some(seat)
    }

    /// Ends the flight if nobody else is on board; its last passenger stays and hears how it is undone. Otherwise frees
    /// the seat and returns `false`.
    fn end_for(&self, seat: u64, cancel: &CancellationToken) -> bool {
        let mut seats = self.lock();
        let is_last = seats.taken.iter().all(|(taken, _)| *taken == seat);
        if is_last {
            cancel.cancel();
        } else {
            seats.taken.retain(|(taken, _)| *taken != seat);
        }
        is_last
    }

    fn dismiss(&self, seat: u64) {
        self.lock().taken.retain(|(taken, _)| *taken != seat);
    }

    fn listeners(&self) -> Vec<Arc<dyn Observer>> {
        self.lock().taken.iter().map(|(_, observer)| observer.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Cabin {
    fn event(&self, event: Event) {
        for listener in self.listeners() {
            quietly(|| listener.event(event.clone()));
        }
    }

    fn secret(&self, secret: &Secret) {
        self.lock().secrets.push(secret.clone());
        for listener in self.listeners() {
            quietly(|| listener.secret(secret));
        }
    }

    /// That of the first on board who listens: the others wait for what that one does.
    fn tracer(&self) -> Option<Arc<Tracer>> {
        self.lock().taken.iter().find_map(|(_, observer)| observer.tracer())
    }
}
