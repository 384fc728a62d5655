use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::{Clock, sleep, timeout_at};
use super::{Admission, JOB_COST, JOB_COST_OF_FEW, RateBudget, SLOW_START, Urgency};

fn answer(status: u16, limit: u32, left: u32) -> http::Response<()> {
    let answer = http::Response::builder().status(status);
    answer.header("ratelimit-limit", limit).header("ratelimit-remaining", left).body(()).unwrap()
}

fn budget(limit: u32, left: u32) -> Arc<RateBudget> {
    let budget = Arc::new(RateBudget::default());
    budget.sends(Clock::default().now()).answered(&answer(200, limit, left), Clock::default().now());
    budget
}

/// How many requests of one urgency pass within so many seconds, if nothing but they draws from the bucket.
async fn passed(budget: &Arc<RateBudget>, urgency: Urgency, seconds: u64) -> u32 {
    let clock = Clock::default();
    let end = clock.now() + Duration::from_secs(seconds);
    let mut passed = 0;
    while budget.pass(urgency, &clock, end).await.is_some() {
        passed += 1;
        assert!(passed < 100_000, "nothing holds them back");
    }
    passed
}

#[tokio::test(start_paused = true)]
async fn with_plenty_everything_passes_at_once() {
    let budget = budget(3600, 3600);
    let clock = Clock::default();
    let began = clock.now();
    for _ in 0..3000 {
        assert!(budget.pass(Urgency::Look, &clock, began + Duration::from_secs(1)).await.is_some());
    }
    assert_eq!(clock.now(), began);
}

#[tokio::test(start_paused = true)]
async fn g33_the_less_is_left_the_more_pressing_a_request_has_to_be() {
    for (left, urgency, least, most) in [
        // However little is left, each has a part of the refill; the rest fills the reserve.
        (0, Urgency::Look, 7, 25),
        (0, Urgency::Order, 15, 30),
        // At the reserve as fast as it flows in.
        (72, Urgency::Look, 55, 65),
    ] {
        let passed = passed(&budget(3600, left), urgency, 60).await;
        assert!((least..=most).contains(&passed), "{left} left, {urgency:?}: {passed}");
    }
    let budget = budget(3600, 0);
    let clock = Clock::default();
    for urgency in [Urgency::Finish, Urgency::Undo] {
        assert!(budget.pass(urgency, &clock, clock.now()).await.is_some(), "{urgency:?} waits for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn g20_after_a_refusal_one_tries_for_all_and_never_waits_for_the_reset() {
    let (budget, clock) = (budget(3600, 3600), Clock::default());
    let far = clock.now() + Duration::from_secs(3600);
    budget.sends(Clock::default().now()).answered(&answer(429, 3600, 0), clock.now());
    let began = clock.now();
    assert!(budget.pass(Urgency::Order, &clock, far).await.is_some());
    assert_eq!(clock.now() - began, Duration::from_secs(1), "the first try");
    let second = budget.pass(Urgency::Look, &clock, far);
    budget.sends(Clock::default().now()).answered(&answer(429, 3600, 0), clock.now());
    assert!(second.await.is_some());
    assert_eq!(clock.now() - began, Duration::from_secs(3), "refused again, so it took twice as long");
    budget.sends(Clock::default().now()).answered(&answer(200, 3600, 3000), clock.now());
    for _ in 0..100 {
        assert!(budget.pass(Urgency::Look, &clock, clock.now()).await.is_some(), "the answer opened the way");
    }
}

#[tokio::test(start_paused = true)]
async fn g21_a_refusal_that_says_nothing_of_a_budget_pauses_all_the_same() {
    let (budget, clock) = (Arc::new(RateBudget::default()), Clock::default());
    budget
        .sends(Clock::default().now())
        .answered(&http::Response::builder().status(429).body(()).unwrap(), clock.now());
    assert!(budget.pass(Urgency::Order, &clock, clock.now()).await.is_none());
    budget
        .sends(Clock::default().now())
        .answered(&http::Response::builder().status(200).body(()).unwrap(), clock.now());
    assert!(budget.pass(Urgency::Order, &clock, clock.now()).await.is_some());
}

/// How many jobs are let in at once.
async fn admitted(budget: &Arc<RateBudget>, most: usize) -> Vec<Admission> {
    let clock = Clock::default();
    let mut admitted = Vec::new();
    while admitted.len() < most {
        let admission = timeout_at(clock.now(), budget.admit(&clock, |_| ())).await;
        let Some(admission) = admission else { break };
        admitted.push(admission);
    }
    admitted
}

#[tokio::test(start_paused = true)]
async fn q11_jobs_are_let_in_as_far_as_the_bucket_pays_for_them() {
    let clock = Clock::default();
    let budget = Arc::new(RateBudget::default());
    let first = admitted(&budget, 1000).await;
    assert_eq!(first.len(), 1, "one finds out how much there is");
    budget.sends(Clock::default().now()).answered(&answer(200, 3600, 1200), clock.now());
    let more = admitted(&budget, 1000).await;
    assert_eq!(first.len() + more.len(), SLOW_START as usize, "nobody knows yet who else draws from it");
    for left in (1190..1200).rev() {
        budget.sends(Clock::default().now()).answered(&answer(200, 3600, left), clock.now());
    }
    let rest = admitted(&budget, 1000).await;
    let all = u32::try_from(first.len() + more.len() + rest.len()).unwrap();
    assert_eq!(all, (1190 - 36) / JOB_COST);
    // What one asks for was reserved; what it did not need is free when it ends.
    more[0].spends();
    drop(rest);
    assert_eq!(budget.lock().promised(clock.now()), u32::try_from(first.len() + more.len()).unwrap() * JOB_COST - 1);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_others_empty_is_shared() {
    let (clock, budget) = (Clock::default(), budget(3600, 2000));
    let _first = admitted(&budget, 1).await;
    // Of ten requests that are drawn, one is ours.
    for drawn in 1..20 {
        budget.sends(Clock::default().now()).answered(&answer(200, 3600, 2000 - drawn * 10), clock.now());
    }
    let more = admitted(&budget, 1000).await.len();
    let fair = (2000 - 190 - 72) / 10 / JOB_COST_OF_FEW as usize;
    assert!((fair / 2..=fair * 2).contains(&more), "{more} of about {fair}");
}

#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_not_taken_for_what_others_draw() {
    let (clock, budget) = (Clock::default(), budget(3600, 2000));
    let _first = admitted(&budget, 1).await;
    // The bucket has counted all of a burst when the first few of it are answered.
    let burst: Vec<_> = (0..40).map(|_| budget.sends(clock.now())).collect();
    for sent in burst.into_iter().take(10) {
        sent.answered(&answer(200, 3600, 1960), clock.now());
    }
    let more = admitted(&budget, 1000).await.len();
    let alone = (1960 - 36) / JOB_COST as usize;
    assert!((alone * 9 / 10..=alone).contains(&more), "{more} of {alone}");
}

#[tokio::test(start_paused = true)]
async fn jobs_are_let_in_in_the_order_in_which_they_came() {
    let (clock, budget) = (Clock::default(), budget(3600, 800));
    let mut inside = admitted(&budget, 1000).await;
    assert_eq!(inside.len(), 8);
    let order = Mutex::new(Vec::new());
    let wait = |number: usize| {
        let (budget, clock, order) = (budget.clone(), &clock, &order);
        async move {
            let admission = budget.admit(clock, |_| ()).await;
            order.lock().unwrap().push(number);
            admission
        }
    };
    let leaving = async {
        for _ in 0..8 {
            sleep(Duration::from_secs(60)).await;
            inside.pop();
        }
    };
    let (mut one, mut two, mut three) = (Box::pin(wait(1)), Box::pin(wait(2)), Box::pin(wait(3)));
    let all = async { tokio::join!(&mut one, &mut two, &mut three) };
    let _ = tokio::join!(all, leaving);
    assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
}
