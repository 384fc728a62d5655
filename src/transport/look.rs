//! Looks that many callers share: whoever waits for something says when he would look, and whoever is the first to be due looks
//! for all.
//!
//! There is no task that polls. Each waiter says when he would look; when that comes and nobody has looked for him, he takes
//! everybody's questions along and makes one look of them. That look moves as long as one of those whom it is for is polled,
//! so who gives up takes nothing from the others. What the rhythm is, the waiters decide; what is decided here is
//! only that rhythms meet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::{Clock, Instant, sleep_until};

/// How long a look that is due at once waits for others.
const TOGETHER: Duration = Duration::from_millis(4);

/// One kind of look. `Q` is what a waiter asks, `A` what a look answers to all of them, `E` why it failed.
pub struct Looks<Q, A, E> {
    state: Mutex<State<Q, A, E>>,
    /// So many questions fit into one request.
    fits: usize,
    /// So many looks may follow each other at once; then they come in the caller's spacing.
    burst: usize,
}

struct State<Q, A, E> {
    waiting: Vec<Waiting<Q, A, E>>,
    next_id: u64,
    /// When the last looks began.
    begun: VecDeque<Instant>,
}

struct Waiting<Q, A, E> {
    id: u64,
    question: Q,
    due: Instant,
    board: oneshot::Sender<Look<A, E>>,
}

/// A look under way.
type Look<A, E> = Shared<BoxFuture<'static, Result<Arc<A>, E>>>;

/// The least time between two looks, once there have been several at once, by how many wait.
pub type Spacing<'a> = &'a (dyn Fn(usize) -> Duration + Send + Sync);

impl<Q: Clone, A: Send + Sync + 'static, E: Clone + Send + Sync + 'static> Looks<Q, A, E> {
    /// Looks of which each request has room for so many questions.
    pub fn new(fits: usize, burst: usize) -> Self {
        let state = State { waiting: Vec::new(), next_id: 0, begun: VecDeque::new() };
        Self { state: Mutex::new(state), fits, burst }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// What a look answers that begins when it is due, or before if somebody else looks. `look` makes it, for all the questions that
    /// it is given.
    #[expect(clippy::manual_async_fn, reason = "that has room for each argument twice, and a thousand may ask")]
    pub fn ask<'a, F>(
        &'a self,
        question: Q,
        due: Instant,
        spacing: Spacing<'a>,
        clock: &'a Clock,
        look: impl FnOnce(Vec<Q>) -> F + 'a,
    ) -> impl Future<Output = Result<Arc<A>, E>> + 'a
    where
        F: Future<Output = Result<A, E>> + Send + 'static,
    {
        async move {
            let (mut place, mut boarded) = self.wait(question.clone(), due);
            // Those that one answer sets going ask at nearly the same time, and should not each look for himself.
            let mut due = due.max(clock.now() + TOGETHER);
            loop {
                tokio::select! {
                    biased;
                    // It ends without a look only together with what it waits at.
                    Ok(look) = &mut boarded => {
                        place.is_left = true;
                        return look.await;
                    }
                    () = sleep_until(due) => {}
                }
                match self.gather(place.id, spacing, clock.now()) {
                    Gathered::NotBefore(moment) => due = moment,
                    // Another thread has just taken this one along.
                    Gathered::Taken => {
                        if let Ok(look) = (&mut boarded).await {
                            place.is_left = true;
                            return look.await;
                        }
                        (place, boarded) = self.wait(question.clone(), due);
                    }
                    Gathered::Look(waiting) => {
                        place.is_left = true;
                        let questions = waiting.iter().map(|waiting| waiting.question.clone()).collect();
                        let look = look(questions).map(|answer| answer.map(Arc::new)).boxed().shared();
                        for waiting in waiting {
                            // Who has given up is not there to hear it.
                            let _ = waiting.board.send(look.clone());
                        }
                        return look.await;
                    }
                }
            }
        }
    }

    fn wait(&self, question: Q, due: Instant) -> (Place<'_, Q, A, E>, oneshot::Receiver<Look<A, E>>) {
        let (board, boarded) = oneshot::channel();
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.waiting.push(Waiting { id, question, due, board });
        (Place { looks: self, id, is_left: false }, boarded)
    }

    /// Who is looked for now: all who are due, and as many of the others, the most eager first, as the requests have room for
    /// that it takes anyway.
    fn gather(&self, id: u64, spacing: Spacing<'_>, now: Instant) -> Gathered<Q, A, E> {
        let mut state = self.lock();
        if !state.waiting.iter().any(|waiting| waiting.id == id) {
            return Gathered::Taken;
        }
        if state.begun.len() >= self.burst
            && let Some(first) = state.begun.front().copied()
        {
            let not_before = first + spacing(state.waiting.len()) * u32::try_from(self.burst).unwrap_or(u32::MAX);
            if now < not_before {
                return Gathered::NotBefore(not_before);
            }
            state.begun.pop_front();
        }
        state.begun.push_back(now);
        let rank = |waiting: &Waiting<Q, A, E>| (waiting.id != id && waiting.due > now, waiting.due, waiting.id);
        let boarding = on_board(state.waiting.iter().map(rank).collect(), self.fits);
        let mut take = |(.., id): Rank| {
            let at = state.waiting.iter().position(|waiting| waiting.id == id)?;
            Some(state.waiting.swap_remove(at))
        };
        Gathered::Look(boarding.into_iter().filter_map(&mut take).collect())
    }

    fn leave(&self, id: u64) {
        self.lock().waiting.retain(|waiting| waiting.id != id);
    }
}

impl<Q, A, E> Looks<Q, A, E> {
    fn lock(&self) -> MutexGuard<'_, State<Q, A, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether somebody may wait yet, until when, and an id: who comes first is looked for first.
type Rank = (bool, Instant, u64);

/// Those whom full requests have room for, that take along all who may not wait; each has room for so many. The same whatever is looked
/// for, so it is compiled once.
fn on_board(mut ranks: Vec<Rank>, fits: usize) -> Vec<Rank> {
    ranks.sort_unstable();
    let due = ranks.iter().filter(|(may_wait, ..)| !may_wait).count();
    ranks.truncate(due.max(1).div_ceil(fits).saturating_mul(fits));
    ranks
}

enum Gathered<Q, A, E> {
    Look(Vec<Waiting<Q, A, E>>),
    NotBefore(Instant),
    Taken,
}

/// A place among those who wait. Dropping it leaves.
struct Place<'a, Q: Clone, A: Send + Sync + 'static, E: Clone + Send + Sync + 'static> {
    looks: &'a Looks<Q, A, E>,
    id: u64,
    is_left: bool,
}

impl<Q: Clone, A: Send + Sync + 'static, E: Clone + Send + Sync + 'static> Drop for Place<'_, Q, A, E> {
    fn drop(&mut self) {
        if !self.is_left {
            self.looks.leave(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::transport::sleep;

    type Numbers = Looks<u32, Vec<u32>, String>;

    const FAST: Spacing<'static> = &|_| Duration::from_millis(250);

    /// Asks for a number that is due in so many seconds; the answer is all that were asked for.
    async fn ask(looks: &Numbers, made: &AtomicUsize, number: u32, seconds: u64) -> Result<Arc<Vec<u32>>, String> {
        let clock = Clock::default();
        let due = clock.now() + Duration::from_secs(seconds);
        let look = |numbers: Vec<u32>| {
            made.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_millis(100)).await;
                if numbers.contains(&13) { Err("unlucky".to_owned()) } else { Ok(numbers) }
            }
        };
        looks.ask(number, due, FAST, &clock, look).await
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_due_first_looks_for_all() {
        let (looks, made) = (Numbers::new(usize::MAX, 4), AtomicUsize::new(0));
        let (one, two, three) =
            tokio::join!(ask(&looks, &made, 1, 9), ask(&looks, &made, 2, 3), ask(&looks, &made, 3, 30));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        for answer in [one, two, three] {
            assert_eq!(*answer.unwrap(), [2, 1, 3], "the most eager first");
        }
        let (one, two) = tokio::join!(ask(&looks, &made, 13, 1), ask(&looks, &made, 1, 1));
        assert!(one.is_err() && two.is_err(), "a look that fails fails for all whom it was for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_takes_along_who_has_room_in_it_and_no_one_else() {
        let (looks, made) = (Numbers::new(3, 4), AtomicUsize::new(0));
        let (looks, made) = (&looks, &made);
        let later =
            futures_util::future::join_all((10..15).map(|number| ask(looks, made, number - 9, u64::from(number))));
        let (first, all) = tokio::join!(ask(looks, made, 7, 1), later);
        assert_eq!(*first.unwrap(), [7, 1, 2], "the next ones due");
        assert_eq!(*all[4].as_ref().unwrap().clone(), [3, 4, 5]);
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nothing_from_the_others() {
        let (looks, made) = (Numbers::new(usize::MAX, 4), AtomicUsize::new(0));
        let starter = async {
            // It begins the look, and is dropped in the middle of it.
            let look = std::pin::pin!(ask(&looks, &made, 1, 1));
            let given_up = std::pin::pin!(sleep(Duration::from_millis(1050)));
            assert!(matches!(
                futures_util::future::select(look, given_up).await,
                futures_util::future::Either::Right(_)
            ));
        };
        let ((), other) = tokio::join!(starter, ask(&looks, &made, 2, 60));
        assert_eq!((*other.unwrap()).clone(), [1, 2]);
        assert_eq!((made.load(Ordering::Relaxed), looks.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_few_at_once_looks_keep_their_distance() {
        let (looks, made) = (Numbers::new(usize::MAX, 2), AtomicUsize::new(0));
        let clock = Clock::default();
        let began = clock.now();
        for _ in 0..6 {
            ask(&looks, &made, 1, 0).await.unwrap();
        }
        let took = clock.now() - began;
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&took), "{took:?}");
    }
}
