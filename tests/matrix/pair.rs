//! Every pair of transport faults at every two requests of a job that succeeds otherwise.

use std::sync::OnceLock;

use crate::form::{FORMS, Form};
use crate::scenario::{Ending, Scenario, Stage};
use crate::single::calm;
use crate::wire::Aim;
use crate::{judge, pool};

/// The forms that are paired: one of each thing that a transport can do to a request.
pub const PAIRED: [&str; 10] = [
    "connection refused",
    "no connection in time",
    "reset, not applied",
    "reset, applied",
    "reset, applied 3 s later",
    "silence, applied",
    "503, not applied",
    "502 of a proxy, applied",
    "reset in the middle of the body",
    "429 without headers",
];

/// Of how many pairs one is run where nobody asks for all. A prime, so that no request and no form is left out.
pub const STRIDE: usize = 83;

#[derive(Clone, Copy)]
pub struct Case {
    first: (usize, &'static Form),
    second: (usize, &'static Form),
}

pub struct Seen {
    pub case: Case,
    /// Whether both befell a request; the first may end the call.
    pub both: bool,
    pub wrong: Vec<String>,
}

impl Case {
    pub fn name(&self) -> String {
        let (i, j) = (self.first, self.second);
        format!("{} at request {} and {} at request {}", i.1.name, i.0, j.1.name, j.0)
    }
}

/// How many pairs there are.
pub fn count() -> usize {
    let requests = calm(Scenario::Succeeds).operations.len();
    requests * (requests - 1) / 2 * PAIRED.len() * PAIRED.len()
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
fn cases() -> Vec<Case> {
    let stride = if std::env::var("PROVISION_VM_PAIRS").is_ok_and(|value| value == "all") { 1 } else { STRIDE };
    let form = |name: &str| FORMS.iter().find(|form| form.name == name).unwrap();
    let requests = calm(Scenario::Succeeds).operations.len();
    let mut all = Vec::with_capacity(count());
    for i in 0..requests {
        for j in i + 1..requests {
            for one in PAIRED {
                all.extend(PAIRED.map(|other| Case { first: (i, form(one)), second: (j, form(other)) }));
            }
        }
    }
    all.into_iter().step_by(stride).collect()
}

pub fn all() -> &'static [Seen] {
    static ALL: OnceLock<Vec<Seen>> = OnceLock::new();
    ALL.get_or_init(|| pool::run(&cases(), |case| Box::pin(run(*case))))
}

async fn run(case: Case) -> Seen {
    let stage = Stage::set(Scenario::Succeeds).await;
    // What these forms do does not depend on the API but for the shape of a refusal, which is the first one's.
    let plan = [case.first, case.second].map(|(index, form)| {
        let operation = calm(Scenario::Succeeds).operations[index].as_str();
        (Aim::At(index), (form.mishap)(crate::single::api_of(operation)).unwrap())
    });
    let call = stage.call(plan.to_vec(), Ending::None).await;
    let mut wrong = judge::inspect(&stage, &call);
    let both = call.struck() == 2;
    if call.struck() == 0 {
        wrong.push("neither befell a request".to_owned());
    }
    // Two passing faults in one call are fewer than three in a row of any operation (I21).
    if let Some(error) = call.error() {
        wrong.push(format!("{:?}: {error} {:?} {:?}", error.cause.code(), error.causes(), error.leftovers));
    }
    wrong.extend(stage.broken());
    Seen { case, both, wrong }
}
