//! Every single fault at every request of a call: once, and from there on for good.

use std::sync::OnceLock;
use std::time::Duration;

use provision_vm::provision::{Code, Kind};
use simulator::{Api, BootOutcome};
use tokio::time::sleep;

use crate::form::{FORMS, Form, Nature};
use crate::judge;
use crate::pool;
use crate::role::{End, Role, expected, roles};
use crate::scenario::{Call, Ending, LONG_DEAD, Scenario, Stage};
use crate::special::{SPECIALS, Special};
use crate::wire::Aim;

/// A call that nothing interfered with.
pub struct Calm {
    pub operations: Vec<String>,
    pub roles: Vec<Role>,
    pub length: u64,
    pub code: Option<Code>,
    pub wrong: Vec<String>,
    /// When something happened: a request, an answer, or the world by itself. Milliseconds since the call began.
    pub instants: Vec<u64>,
}

/// One run of the matrix.
#[derive(Clone, Copy)]
pub struct Case {
    pub scenario: Scenario,
    pub index: usize,
    pub form: &'static Form,
    pub special: Option<&'static Special>,
    pub lasts: bool,
}

/// What came of it.
pub struct Seen {
    pub case: Case,
    pub role: Role,
    pub code: Option<Code>,
    /// How many requests it befell before the undo.
    pub tries: usize,
    /// Requests of this call, to Hetzner and Tailscale.
    pub requests: (usize, usize),
    /// Virtual milliseconds more than without the fault; only where the call ended as without it.
    pub delay: Option<u64>,
    /// The longest pause between a failure and the next try.
    pub longest_wait: u64,
    pub kinds_left: Vec<&'static str>,
    pub wrong: Vec<String>,
}

/// Runs of every scenario without any fault.
pub fn calm(scenario: Scenario) -> &'static Calm {
    static ALL: OnceLock<Vec<Calm>> = OnceLock::new();
    let all = ALL.get_or_init(|| pool::run(&Scenario::ALL, |scenario| Box::pin(rehearse(*scenario))));
    &all[Scenario::ALL.iter().position(|each| *each == scenario).unwrap()]
}

async fn rehearse(scenario: Scenario) -> Calm {
    let stage = Stage::set(scenario).await;
    let entries_before = stage.cloud.world().journal().len();
    let at_before = stage.cloud.truth().0["elapsed_ms"].as_u64().unwrap();
    let call = stage.call(Vec::new(), Ending::None).await;
    let mut wrong = judge::inspect(&stage, &call);
    if call.code() != scenario.natural_end() {
        wrong.push(format!("{:?} instead of {:?}", call.code(), scenario.natural_end()));
    }
    // A follower begins later than its world.
    let offset = at_before + if scenario == Scenario::Follows { 3_000 } else { 0 };
    let world = stage.cloud.world();
    let happenings = world.journal()[entries_before..].iter().filter(|entry| entry.who == "world");
    let happenings = happenings.filter_map(|entry| entry.at_ms.checked_sub(offset));
    let mut instants: Vec<u64> = call.log.iter().flat_map(|sent| [sent.at, sent.ended]).chain(happenings).collect();
    instants.retain(|at| *at <= call.length);
    instants.sort_unstable();
    instants.dedup();
    Calm {
        operations: call.log.iter().map(|sent| sent.operation.clone()).collect(),
        roles: roles(scenario, &call),
        length: call.length,
        code: call.code(),
        wrong,
        instants,
    }
}

/// The cases: every form at every request; in a story that differs from the first one only in some requests, at these.
///
/// A fault that lasts from one look of a long wait on differs from one that lasts from the next look only in one good
/// answer more. So it begins at the first, at one in the middle and at the last; with `PROVISION_VM_MATRIX=all` at every
/// one, and in every story at every request.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for scenario in Scenario::ALL {
        let calm = calm(scenario);
        for (index, operation) in calm.operations.iter().enumerate() {
            if !is_everything() && !scenario.is_own(calm, index) {
                continue;
            }
            let may_last = is_everything() || is_landmark(calm, index);
            let mut add = |form, special, lasts| cases.push(Case { scenario, index, form, special, lasts });
            for form in FORMS.iter().filter(|form| (form.mishap)(api_of(operation)).is_some()) {
                add(form, None, false);
                if may_last {
                    add(form, None, true);
                }
            }
            for special in SPECIALS.iter().filter(|special| special.operation == operation) {
                add(&special.form, Some(special), false);
                if may_last && special.lasts.is_some() {
                    add(&special.form, Some(special), true);
                }
            }
        }
    }
    cases
}

#[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the tests")]
pub fn is_everything() -> bool {
    std::env::var("PROVISION_VM_MATRIX").is_ok_and(|value| value == "all")
}

/// The first, the middle and the last of the requests that are one another's repetition.
fn is_landmark(calm: &Calm, index: usize) -> bool {
    let same =
        |other: &usize| calm.roles[*other] == calm.roles[index] && calm.operations[*other] == calm.operations[index];
    let looks: Vec<usize> = (0..calm.operations.len()).filter(same).collect();
    [looks.first(), looks.get(looks.len() / 2), looks.last()].contains(&Some(&index))
}

impl Scenario {
    /// Whether this story's request has no equal in the first story.
    fn is_own(self, calm: &Calm, index: usize) -> bool {
        let (role, operation) = (calm.roles[index], calm.operations[index].as_str());
        match self {
            Self::Succeeds | Self::Follows | Self::TakesJoined | Self::Returned => true,
            Self::NeverJoins => matches!(role, Role::Undo | Role::Glance | Role::LastLook),
            Self::Aborted => role == Role::Undo,
            Self::TakesOver => {
                let removal = calm.roles.iter().rposition(|role| *role == Role::Removal);
                removal.is_some_and(|last| index <= last + 3)
            }
            Self::GivenKey => role == Role::CheckKey,
            Self::Federated => role == Role::Token,
            Self::Snapshot => operation == "hetzner POST /servers",
        }
    }
}

/// Runs them all, once for all tests.
pub fn all() -> &'static [Seen] {
    static ALL: OnceLock<Vec<Seen>> = OnceLock::new();
    ALL.get_or_init(|| pool::run(&cases(), |case| Box::pin(run(*case))))
}

pub fn api_of(operation: &str) -> Api {
    match operation.split(' ').next() {
        Some("hetzner") => Api::Hetzner,
        Some("tailscale") => Api::Tailscale,
        _ => Api::Oidc,
    }
}

impl Case {
    pub fn name(&self) -> String {
        let Self { scenario, index, form, lasts, .. } = self;
        let operation = &calm(*scenario).operations[*index];
        let how_often = if *lasts { "for good" } else { "once" };
        format!("{} {} {how_often} at request {index} ({operation}) of {scenario:?}", form.row, form.name)
    }

    /// Whether what follows a failure is another try. Looks of a wait come at their own pace, and other requests of the
    /// same operation may have their own reasons.
    fn has_retries(&self, role: Role) -> bool {
        let is_look = matches!(role, Role::Poll | Role::Proof | Role::Glance | Role::LastLook | Role::Removal);
        self.special.is_none() && !is_look && !matches!(self.form.nature, Nature::Harmless | Nature::Final)
    }

    fn end(&self, role: Role) -> End {
        let operation = &calm(self.scenario).operations[self.index];
        match self.special {
            None => expected(role, self.form, self.lasts, operation),
            Some(_) if matches!(role, Role::Undo | Role::Retire | Role::Glance | Role::LastLook) => End::Natural,
            Some(_) if role == Role::Removal => End::Either(Code::Upstream),
            Some(special) if self.lasts => special.lasts.unwrap_or(special.once),
            Some(special) => special.once,
        }
    }
}

async fn run(case: Case) -> Seen {
    let base = calm(case.scenario);
    let (role, operation) = (base.roles[case.index], &base.operations[case.index]);
    let aim = if case.lasts { Aim::From(case.index) } else { Aim::At(case.index) };
    let mishap = (case.form.mishap)(api_of(operation)).unwrap();
    let stage = Stage::set(case.scenario).await;
    let call = stage.call(vec![(aim, mishap.clone())], Ending::None).await;
    let mut wrong = judge::inspect(&stage, &call);
    match call.log.get(case.index) {
        Some(sent) if sent.struck && sent.operation == *operation => {}
        other => wrong.push(format!("it did not befall the request that it was meant for: {other:?}")),
    }
    let natural = case.scenario.natural_end();
    let (end, code) = (case.end(role), call.code());
    let fits = match end {
        End::Natural => code == natural,
        End::Code(expected) => code == Some(expected),
        End::Either(expected) => code == natural || code == Some(expected),
        End::OneOf(one, other) => code == natural || code == Some(one) || code == Some(other),
    };
    if !fits && call.outcome.is_some() {
        let why = call.error().map(|error| format!("{error} {:?}", error.causes()));
        wrong.push(format!("{role:?} ended with {code:?} instead of {end:?}: {why:?}"));
    }
    let undo = call.undo_began().unwrap_or(u64::MAX);
    let tries = call.log.iter().filter(|sent| sent.struck && sent.at < undo).count();
    if let Some(most) = most_tries(&case, role).filter(|most| tries > *most) {
        wrong.push(format!("{tries} tries, {most} are allowed"));
    }
    if call.error().is_some() {
        wrong.extend(repeat(&stage, &call, &case, mishap).await);
    }
    wrong.extend(stage.broken());
    let sent_to = |api: &str| call.log.iter().filter(|sent| sent.operation.starts_with(api)).count();
    Seen {
        case,
        role,
        code,
        tries,
        requests: (sent_to("hetzner"), sent_to("tailscale")),
        delay: (code == natural).then(|| call.length.saturating_sub(base.length)),
        longest_wait: if case.has_retries(role) { longest_wait(&call) } else { 0 },
        kinds_left: call
            .error()
            .map(|error| error.leftovers.iter().map(|left| left.kind.as_str()).collect())
            .unwrap_or_default(),
        wrong,
    }
}

/// How often one operation is tried at most while it fails. Looks of a wait are paced instead.
fn most_tries(case: &Case, role: Role) -> Option<usize> {
    match role {
        _ if case.form.nature == Nature::Harmless || case.form.row == "G11" => None,
        Role::Poll | Role::Proof | Role::Glance | Role::LastLook | Role::Undo | Role::Removal | Role::Retire => None,
        // These have a time instead of a number; `Retry-After: 2` makes it thirty tries.
        Role::Mark | Role::Ready => Some(32),
        // A name that is held is asked for during 20 s.
        Role::OrderServer if case.form.row == "P19" => Some(16),
        // Two look-ups begin together, and several candidates may be ordered.
        Role::Token | Role::Needed | Role::CheckKey | Role::OrderKey | Role::OrderServer => Some(8),
    }
}

/// From the end of a request that was struck to the next of the same operation.
fn longest_wait(call: &Call) -> u64 {
    let next = |(index, sent): (usize, &crate::wire::Sent)| {
        let next = call.log[index + 1..].iter().find(|next| next.operation == sent.operation && next.at >= sent.ended);
        next.map_or(0, |next| next.at - sent.ended)
    };
    call.log.iter().enumerate().filter(|(_, sent)| sent.struck).map(next).max().unwrap_or_default()
}

/// With the cause gone the same call succeeds; with the cause still there, a code that says "not retryable" comes again.
async fn repeat(stage: &Stage, call: &Call, case: &Case, mishap: crate::wire::Mishap) -> Vec<String> {
    let mut wrong = Vec::new();
    let error = call.error().unwrap();
    let code = error.cause.code();
    stage.cloud.world().configure(|config| config.machine.boot = BootOutcome::Joins);
    sleep(wait_before_repeat(error)).await;
    // What is left of the first call would come between.
    let is_left = error.leftovers.iter().any(|left| left.kind == Kind::Server);
    if case.lasts && !error.is_retryable() && case.special.is_none() && !is_left {
        let operation = calm(case.scenario).operations[case.index].clone();
        let again = stage.again(vec![(Aim::Every(operation), mishap)]).await;
        // Who is ready needs less.
        let is_done = stage.cloud.truth().servers().iter().any(|server| server["labels"]["state"] == "ready");
        if again.code() != Some(code) && !(is_done && again.code().is_none()) {
            wrong.push(format!(
                "{code:?} is no code of a lasting fault: with the cause still there, {:?}",
                again.code()
            ));
        }
        if let Some(error) = again.error() {
            sleep(wait_before_repeat(error)).await;
        }
    }
    let before = stage.cloud.truth();
    let again = stage.again(Vec::new()).await;
    match &again.outcome {
        Some(Ok(done)) => {
            wrong.extend(judge::one_ready(&before, &again.after, done).err().map(|why| format!("repeated: {why}")));
        }
        Some(Err(error)) => wrong.push(format!("repeated without the fault: {error} {:?}", error.causes())),
        None => wrong.push("repeated: a panic".to_owned()),
    }
    wrong
}

/// What the error says. A code that says "not retryable" promises nothing, so then: until what is left counts as dead.
fn wait_before_repeat(error: &provision_vm::provision::ProvisionError) -> Duration {
    let is_left = error.leftovers.iter().any(|left| left.kind == Kind::Server);
    let patience = if is_left && !error.is_retryable() { LONG_DEAD } else { Duration::ZERO };
    error.retry_after().unwrap_or(patience)
}

/// The delays that single passing faults cost calls that succeed: what the promise of a median is about.
pub fn delays_of_survivors() -> Vec<u64> {
    let survivors = all().iter().filter(|seen| {
        let case = &seen.case;
        !case.lasts && case.form.nature.is_passing() && case.form.nature != Nature::Harmless && seen.code.is_none()
    });
    let mut delays: Vec<u64> = survivors.filter_map(|seen| seen.delay).collect();
    delays.sort_unstable();
    delays
}
