'use strict'

// The defects that the suite has to catch. Each is a few edits of the source, switched on by its name at run time; all of
// them are built at once into a copy of the tree (run.js), so that the source itself has no switch.
//
// `caughtBy` names the invariants (docs/invariants.md) of which one has to be violated in some run: of the random worlds, or of
// the fault matrix where `suite` says so; `says` is then what the matrix complains of where that invariant is broken. A defect
// that only makes the program panic, or an answer unreadable, does not count as caught. Where `caughtBy` is empty the change must
// do no harm: nothing may be violated but what it `tolerates`.

const ADOPT = 'src/provision/adopt.rs'
const AUTH_KEY = 'src/provision/step/auth_key.rs'
const CHAIN = 'src/transport/chain.rs'
const CLEANUP = 'src/provision/cleanup.rs'
const DEVICE = 'src/provision/step/device.rs'
const ENROLLMENT = 'src/provision/enrollment.rs'
const ERROR = 'src/provision/error.rs'
const FIRST_BOOT = 'src/provision/step/first_boot.rs'
const JOB = 'src/provision/job.rs'
const MOD = 'src/provision/mod.rs'
const REACH = 'src/provision/step/reach.rs'
const READY = 'src/provision/step/ready.rs'
const REAP = 'src/provision/reap.rs'
const REMOVAL = 'src/provision/step/removal.rs'
const RETRY = 'src/transport/retry.rs'
const RUN = 'src/provision/run.rs'
const SAGA = 'src/provision/saga.rs'
const SERVER = 'src/provision/step/server.rs'
const TURN = 'src/provision/turn.rs'
const UNDO_AUTH_KEY = 'src/provision/step/auth_key/undo.rs'
const UNDO_SERVER = 'src/provision/step/server/undo.rs'
const WAIT_MACHINE = 'src/provision/step/wait/machine.rs'

/** `planted("x")` is true while the defect x is switched on. */
module.exports = [
  {
    name: 'random-name',
    what: "the server's name is made up anew for every attempt, so the cloud is no lock",
    caughtBy: ['I01', 'I17'],
    edits: [
      [SERVER, '    let write = || {\n        let order = CreateServer {\n            name: &run.job.name,', '    let name = if planted("random-name") { Box::leak(format!("{}-{}", run.job.name, run.chance.id()).into_boxed_str()) } else { run.job.name.as_str() };\n    let write = || {\n        let order = CreateServer {\n            name,'],
      [UNDO_SERVER, 'self.owns(server) && (', '(planted("random-name") && self.is_of_attempt(server) || self.owns(server)) && ('],
      [REMOVAL, 'if server.name == job.name && job.owns', 'if (planted("random-name") || server.name == job.name) && job.owns'],
    ],
  },
  {
    name: 'undo-registered-late',
    what: 'the undo of a server is declared with its answer instead of before its order',
    caughtBy: ['I12', 'I13'],
    edits: [[UNDO_SERVER, 'self.change(|state| state.floating += 1);', 'self.change(|state| state.floating += u32::from(!planted("undo-registered-late")));']],
  },
  {
    name: 'adopt-without-labels',
    what: "whatever has the job's name counts as what a dead attempt of the job left",
    caughtBy: ['I02'],
    edits: [
      [ADOPT, 'let job = run.job;\n    let Some(claim)', 'let job = run.job;\n    if planted("adopt-without-labels") && server.name == job.name && Claim::read(&server).is_none_or(|claim| claim.job != job.id) {\n        let (job, agent, attempt) = (job.id.clone(), job.agent.clone(), String::new());\n        let claim = Claim { job, agent, attempt, started: 0, expires: Some(0), auth_key: None, node_id: None, ready: false, is_resumable: false };\n        return Ok(Standing::Dead(server, claim));\n    }\n    let Some(claim)'],
      [REMOVAL, 'if let Some((objection, hold)) = objection(run, target, &server) {', 'let objects = objection(run, target, &server).filter(|_| !(planted("adopt-without-labels") && target.attempt.is_empty()));\n        if let Some((objection, hold)) = objects {'],
    ],
  },
  {
    name: 'report-token-untold',
    what: 'no log is told to mask the token with which a machine reports its first boot',
    caughtBy: ['I06'],
    edits: [[FIRST_BOOT, 'if let Some(report) = &report {', 'if let Some(report) = report.as_ref().filter(|_| !planted("report-token-untold")) {']],
  },
  {
    name: 'no-settle-window',
    what: 'an undo does not wait for an order that may still land, and does not name it',
    caughtBy: ['I12'],
    edits: [
      [UNDO_SERVER, 'while floating > 0 {', 'if planted("no-settle-window") {\n            floating = 0;\n        }\n        while floating > 0 {'],
    ],
  },
  {
    name: 'compensation-cancelled',
    what: "the caller's signal ends the undo as well",
    caughtBy: ['I12', 'I13'],
    edits: [[SAGA, 'while let Some(undo) = undos.pop() {', 'while let Some(undo) = undos.pop().filter(|_| !(planted("compensation-cancelled") && run.cancel.is_cancelled())) {']],
  },
  {
    name: 'reset-as-wait',
    what: 'the moment at which the bucket is full is taken for a wait',
    caughtBy: ['I09', 'I14'],
    edits: [
      [RETRY, 'let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();', 'if planted("reset-as-wait")\n        && let Some(reset) = headers.get("ratelimit-reset").and_then(|text| text.to_str().ok()?.parse::<i64>().ok())\n    {\n        return u64::try_from(reset - cloud_unix).ok().map(Duration::from_secs);\n    }\n    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();'],
      [RETRY, 'wish.filter(|wish| *wish <= SLOW_CAP)', 'wish.filter(|wish| planted("reset-as-wait") || *wish <= SLOW_CAP)'],
    ],
  },
  {
    name: 'action-404-fatal',
    what: 'an action that Hetzner does not show (any more) ends the job',
    suite: 'matrix',
    says: { I21: /^Poll ended with Some\(Protocol\) instead of Natural/ },
    caughtBy: ['I21'],
    edits: [[WAIT_MACHINE, 'Err(error) if error.is_not_found() => Vec::new(),', 'Err(error) if error.is_not_found() && !planted("action-404-fatal") => Vec::new(),']],
  },
  {
    name: 'hostname-only-match',
    what: 'a device counts by its host name alone, without tag and age',
    // Where a device connects from stands behind it, so a stranger is not taken for the machine; but it blocks the job.
    caughtBy: ['I02', 'I11', 'I15', 'I17', 'I18'],
    edits: [
      [ENROLLMENT, 'self.is_new(device) && device.tags', 'planted("hostname-only-match") && device.hostname.eq_ignore_ascii_case(self.hostname)\n            || self.is_new(device) && device.tags'],
    ],
  },
  {
    name: 'key-not-revoked',
    what: 'the undo forgets the auth key',
    caughtBy: ['I12'],
    edits: [[UNDO_AUTH_KEY, 'if let Some(id) = self.state().minted {\n                left', 'if let Some(id) = self.state().minted.filter(|_| !planted("key-not-revoked")) {\n                left']],
  },
  {
    name: 'secret-in-error',
    what: 'an error quotes the request that failed, with its token',
    caughtBy: ['I06'],
    edits: [[CHAIN, 'let (host, deadline) = (host_of(call.request.uri()), within.deadline);', 'let deadline = within.deadline;\n        let host = if planted("secret-in-error") {\n            format!("{} {:?}", host_of(call.request.uri()), call.request.headers().get("authorization").and_then(|value| value.to_str().ok()))\n        } else {\n            host_of(call.request.uri())\n        };']],
  },
  {
    name: 'create-repeated-blindly',
    what: 'an order without an answer is sent again without a look',
    caughtBy: ['I09'],
    edits: [[SERVER, 'for wait in LOOKS {', 'for wait in LOOKS.into_iter().filter(|_| !planted("create-repeated-blindly")) {']],
  },
  {
    name: 'undo-of-any-attempt',
    what: 'an undo deletes the server of its name whichever attempt made it',
    caughtBy: ['I03'],
    edits: [
      [REMOVAL, '&& claim.attempt == target.attempt =>', '&& (planted("undo-of-any-attempt") || claim.attempt == target.attempt) =>'],
      [UNDO_SERVER, 'if self.is_of_attempt(&server) && !seen', 'if (planted("undo-of-any-attempt") && Claim::read(&server).is_some() || self.is_of_attempt(&server)) && !seen'],
    ],
  },
  {
    name: 'reaper-ignores-devices',
    what: 'the reaper deletes an expired server whose machine stands in the tailnet',
    caughtBy: ['I03'],
    edits: [
      [REMOVAL, 'if target.guard.is_of_dead() {', 'if target.guard.is_of_dead() && !planted("reaper-ignores-devices") {'],
      [REAP, 'match look {\n            Err(cause)', 'let look = if planted("reaper-ignores-devices") { Ok(Enrollment::NotYet(super::enrollment::Obstacle::Absent)) } else { look };\n        match look {\n            Err(cause)'],
    ],
  },
  {
    name: 'ready-cleaned-up',
    what: 'who cleans up after a run removes what it has handed over as well',
    caughtBy: ['I03'],
    edits: [
      [CLEANUP, 'if self.is_handed_over(&job, &server).await {', 'if !planted("ready-cleaned-up") && self.is_handed_over(&job, &server).await {'],
      [CLEANUP, '(is_ours && !claim.ready).then_some', '(is_ours && (!claim.ready || planted("ready-cleaned-up"))).then_some'],
      [CLEANUP, 'adopt::clear(&run, server, claim, Guard::Own).await', 'adopt::clear(&run, server, claim, if planted("ready-cleaned-up") { Guard::Told } else { Guard::Own }).await'],
    ],
  },
  {
    name: 'any-attempt-cleaned-up',
    what: "who cleans up after a run takes any attempt at the job for that run's",
    caughtBy: ['I03'],
    edits: [[CLEANUP, '&& self.what.made(&claim.attempt);', '&& (self.what.made(&claim.attempt) || planted("any-attempt-cleaned-up"));']],
  },
  {
    name: 'run-by-its-beginning',
    what: 'an attempt counts as that of a run whose id merely begins alike',
    caughtBy: ['I03'],
    edits: [[JOB, 'let random = attempt.strip_prefix(&self.prefix)', 'if planted("run-by-its-beginning") {\n            return attempt.starts_with(&self.prefix);\n        }\n        let random = attempt.strip_prefix(&self.prefix)']],
  },
  {
    name: 'keys-not-cleaned-up',
    what: 'who cleans up after a run forgets the keys that no server names',
    caughtBy: ['I12'],
    edits: [[CLEANUP, 'for AuthKey { id, description, .. } in keys {', 'for AuthKey { id, description, .. } in keys.into_iter().filter(|_| !planted("keys-not-cleaned-up")) {']],
  },
  {
    name: 'device-of-another-project',
    what: 'a device is deleted because no server of its name stands here, whoever deleted it',
    caughtBy: ['I02'],
    edits: [
      [DEVICE, 'if !is_deleted {', 'if !is_deleted && !planted("device-of-another-project") {'],
    ],
  },
  {
    name: 'customers-key-revoked',
    what: "TAILSCALE_AUTH_KEY, which is the customer's, is revoked after use",
    caughtBy: ['I02'],
    edits: [
      [AUTH_KEY, 'Origin::Given => return,', 'Origin::Given if planted("customers-key-revoked") => run.tailscale.revoke_key(id, within).await,\n        Origin::Given => return,'],
    ],
  },
  {
    name: 'foreign-address-deleted',
    what: "the addresses of a dead attempt's server are deleted, although they may be the customer's",
    caughtBy: ['I02'],
    edits: [[UNDO_SERVER, 'ordered.is_answer && ordered.primary_ips', '(ordered.is_answer || planted("foreign-address-deleted")) && ordered.primary_ips']],
  },
  {
    name: 'ready-server-deleted',
    what: 'an undo deletes a server that was handed over',
    caughtBy: ['I03'],
    edits: [[REMOVAL, 'Some(claim) if claim.ready &&', 'Some(claim) if claim.ready && !planted("ready-server-deleted") &&']],
  },
  {
    name: 'job-of-two-agents',
    what: 'the same job with another agent makes a second server',
    caughtBy: ['I01', 'I11'],
    edits: [
      [ADOPT, 'let oldest = run.guard(look).await?.into_iter().min_by_key(|server| server.id);', 'let labelled = run.guard(look).await?;\n    let labelled = if planted("job-of-two-agents") { Vec::new() } else { labelled };\n    let oldest = labelled.into_iter().min_by_key(|server| server.id);'],
      [READY, 'if let Some(older) = servers.iter().find(|server| server.id < id) {', 'if let Some(older) = servers.iter().find(|server| server.id < id).filter(|_| !planted("job-of-two-agents")) {'],
    ],
  },
  {
    name: 'no-second-look',
    what: 'a server is marked ready without looking for an older one of the same job',
    caughtBy: ['I01', 'I11'],
    edits: [[READY, 'servers.iter().find(|server| server.id < id)', 'servers.iter().find(|server| server.id < id && !planted("no-second-look"))']],
  },
  {
    name: 'given-up-though-joined',
    what: 'who gives up removes a server that others may be finishing, although a device stands that may be its machine',
    caughtBy: ['I03', 'I11'],
    edits: [[REMOVAL, 'Ok(Some(device)) => return', 'Ok(Some(_)) if planted("given-up-though-joined") => {}\n                Ok(Some(device)) => return']],
  },
  {
    name: 'nobody-may-finish',
    what: 'the server of a call that does not wait is not labelled as anybody\'s to finish',
    caughtBy: ['I18'],
    edits: [[JOB, 'if attempt.is_resumable {', 'if attempt.is_resumable && !planted("nobody-may-finish") {']],
  },
  {
    name: 'living-attempt-taken-over',
    what: 'an attempt counts as dead before its end',
    caughtBy: ['I03'],
    edits: [[JOB, 'self.expires.is_some_and(|expires| expires < now)', 'self.expires.is_some_and(|expires| expires < now + if planted("living-attempt-taken-over") { 900 } else { 0 })']],
  },
  {
    name: 'wall-clock',
    what: "labels are written in this machine's time instead of the cloud's",
    caughtBy: ['I10'],
    edits: [['src/transport/clock.rs', 'pub fn cloud_unix(&self) -> i64 {', 'pub fn cloud_unix(&self) -> i64 {\n        if planted("wall-clock") {\n            return wall_unix();\n        }']],
  },
  {
    name: 'key-before-lookup',
    what: 'a key is minted before anybody has looked whether the job is done already',
    caughtBy: ['I04'],
    edits: [
      [TURN, 'let mut standing = adopt::look_up(run).boxed().await.map_err(nothing_left)?;', 'if planted("key-before-lookup") {\n        use super::step::auth_key;\n        let (saga, early) = (super::Saga::default(), run.begin_attempt());\n        if let Ok(key) = auth_key::ensure(run, &saga, &early).await {\n            auth_key::retire(run, &key.key).await;\n        }\n    }\n    let mut standing = adopt::look_up(run).boxed().await.map_err(nothing_left)?;'],
    ],
  },
  {
    name: 'any-key-accepted',
    what: 'a key is used although it may do more than was ordered',
    suite: 'matrix',
    says: { I04: /^OrderKey ended with None instead of Code\(Protocol\)/ },
    caughtBy: ['I04'],
    edits: [[AUTH_KEY, 'if got.reusable ||', 'if planted("any-key-accepted") {\n        return Ok(text.clone());\n    }\n    if got.reusable ||']],
  },
  {
    name: 'absence-assumed',
    what: 'a deletion that got no answer counts as done',
    caughtBy: ['I12', 'I13'],
    edits: [[REMOVAL, 'is_ours |= error.may_have_applied();', 'is_ours |= error.may_have_applied();\n                if planted("absence-assumed") && error.may_have_applied() {\n                    return Removal::Deleted { primary_ips };\n                }']],
  },
  {
    name: 'leftover-invented',
    what: 'a server that is gone is named all the same',
    caughtBy: ['I13'],
    edits: [[UNDO_SERVER, 'Removal::Deleted { primary_ips } => {', 'Removal::Deleted { .. } if planted("leftover-invented") => {\n                return vec![Leftover::exists(Kind::Server, "invented").id(&ordered.id).name(&self.name)];\n            }\n            Removal::Deleted { primary_ips } => {']],
  },
  {
    name: 'leftover-doubted',
    what: 'a server whose deletion is confirmed is named as one that may still be there',
    caughtBy: ['I13'],
    edits: [[UNDO_SERVER, 'Removal::Deleted { primary_ips } => {', 'Removal::Deleted { .. } if planted("leftover-doubted") => {\n                return vec![Leftover::unconfirmed(Kind::Server, "doubted").id(&ordered.id).name(&self.name)];\n            }\n            Removal::Deleted { primary_ips } => {']],
  },
  {
    name: 'mark-repeated-blindly',
    what: 'the mark is written again without a read since the last time',
    caughtBy: ['I02'],
    edits: [[READY, 'let once = Within { patience: Patience::Tries(1), ..within };', 'let once = if planted("mark-repeated-blindly") { within } else { Within { patience: Patience::Tries(1), ..within } };']],
  },
  {
    name: 'silent-device-believed',
    what: 'a device that does not say where it connects from is deleted as the machine of the call',
    caughtBy: ['I02'],
    edits: [[DEVICE, 'if is_at_ours {\n            return Settled::candidate', 'if is_at_ours || planted("silent-device-believed") && place == Place::Unknown {\n            return Settled::candidate']],
  },
  {
    name: 'cleanup-error-reported',
    what: 'trouble of the undo takes the place of the first cause',
    caughtBy: ['I16'],
    edits: [[MOD, 'let left = saga.compensate(run).await;\n    (cause, left)', 'let left = saga.compensate(run).await;\n    let cause = if planted("cleanup-error-reported") && !left.is_empty() { Cause::Remains } else { cause };\n    (cause, left)']],
  },
  {
    name: 'undo-without-end',
    what: 'the undo has no limit in time',
    caughtBy: ['I14'],
    edits: [[RUN, '(began.min(self.deadline()) + UNDO_BUDGET).max', 'if planted("undo-without-end") {\n            return now + UNDO_BUDGET * 60;\n        }\n        (began.min(self.deadline()) + UNDO_BUDGET).max']],
  },
  {
    name: 'deaf-to-abort',
    what: 'an abort is heard only when the order in flight has been answered',
    caughtBy: ['I14'],
    edits: [[RUN, 'self.begin_undo(&cause);\n            Heard', 'if !planted("deaf-to-abort") {\n                self.begin_undo(&cause);\n            }\n            Heard']],
  },
  {
    name: 'redirect-followed',
    what: 'a redirect is followed, and carries the token elsewhere',
    suite: 'matrix',
    says: { I07: /^Sent \{ operation: "oidc / },
    caughtBy: ['I07'],
    edits: [
      [CHAIN, 'if answer.status().is_redirection() {', 'if planted("redirect-followed")\n            && answer.status().is_redirection()\n            && let Some(place) = answer.headers().get("location").and_then(|place| place.to_str().ok()?.parse().ok())\n        {\n            let mut again = call.request.clone();\n            *again.uri_mut() = place;\n            return self.transport.exchange(again).await;\n        }\n        if answer.status().is_redirection() {'],
    ],
  },
  {
    name: 'endless-retry',
    what: 'an operation is tried again until the deadline, at once',
    suite: 'matrix',
    says: { I08: /^\d+ requests to \w+, \d+ are allowed/ },
    caughtBy: ['I08'],
    edits: [[RETRY, 'if tried >= if is_slow {', 'if !planted("endless-retry") && tried >= if is_slow {'], [RETRY, 'Some(doubled(FIRST, CAP).mul_f64(fraction))', 'Some(if planted("endless-retry") { Duration::from_millis(1) } else { doubled(FIRST, CAP).mul_f64(fraction) })']],
  },
  {
    name: 'refusal-retried',
    what: 'a refusal for good is tried again',
    suite: 'matrix',
    says: { I09: /^\d+ tries, \d+ are allowed/ },
    caughtBy: ['I09'],
    edits: [[RETRY, 'Opinion::Stop => None,\n        Opinion::LookFirst', 'Opinion::Stop if planted("refusal-retried") => Some(FIRST),\n        Opinion::Stop => None,\n        Opinion::LookFirst']],
  },
  {
    name: 'retryable-lies',
    what: 'every failure is called retryable, whatever stands in the way',
    caughtBy: ['I15'],
    edits: [[ERROR, 'let is_stuck = match &self.cause', 'if planted("retryable-lies") {\n            return true;\n        }\n        let is_stuck = match &self.cause']],
  },
  {
    name: 'address-forgotten',
    what: 'addresses that outlive their server are neither removed nor named',
    caughtBy: ['I12'],
    edits: [[UNDO_SERVER, 'let mut left = remove_primary_ips', 'if planted("address-forgotten") {\n            return Vec::new();\n        }\n        let mut left = remove_primary_ips']],
  },
  {
    name: 'late-device-forgotten',
    what: 'a device that shows late is not looked for',
    caughtBy: ['I12'],
    edits: [[DEVICE, 'if scene.machine() == Machine::NeverMade {', 'if scene.machine() == Machine::NeverMade || planted("late-device-forgotten") {']],
  },
  {
    name: 'no-expiry',
    what: 'a server does not say when its attempt must be dead, so nobody cleans up after it',
    caughtBy: ['I17', 'I18'],
    edits: [[JOB, '(EXPIRES.to_owned(), attempt.expires.to_string()),', '(if planted("no-expiry") { "until".to_owned() } else { EXPIRES.to_owned() }, attempt.expires.to_string()),']],
  },
  {
    name: 'unconfirmed-success',
    what: 'a device that is not approved counts as joined',
    caughtBy: ['I11'],
    edits: [[ENROLLMENT, 'if !device.authorized {', 'if !device.authorized && !planted("unconfirmed-success") {']],
  },
  {
    name: 'refused-is-reached',
    what: 'a machine that refuses a connection counts as reached',
    caughtBy: ['I11'],
    edits: [[REACH, 'while let Err(why) = attempt(run, ip, port).await? {', 'while let Err(why) = attempt(run, ip, port).await?.or_else(|why| if planted("refused-is-reached") && why == DialError::Refused { Ok(()) } else { Err(why) }) {']],
  },
  {
    name: 'ready-is-reached',
    what: 'a job that was ready before is returned without a look whether its machine can be reached',
    caughtBy: ['I11'],
    edits: [[TURN, 'reach::wait(run, enrolled.ip).await.map_err(nothing_left)?;', 'if !planted("ready-is-reached") {\n        reach::wait(run, enrolled.ip).await.map_err(nothing_left)?;\n    }']],
  },
  {
    name: 'delete-repeated-blindly',
    what: 'a deletion is tried again without a look at whose the server is by now',
    caughtBy: ['I03'],
    edits: [[REMOVAL, 'Some(pause) => sleep(pause).await,', 'Some(pause) => {\n                        sleep(pause).await;\n                        if planted("delete-repeated-blindly") {\n                            let _ = run.hetzner.delete_server(target.id, once).await;\n                        }\n                    }']],
  },
  {
    name: 'undo-twice',
    what: 'no defect: when all undos have run, each is run once more, and the world has to be the same',
    caughtBy: [],
    // What the first round could not remove and named, the second may have removed.
    tolerates: ['I13'],
    edits: [
      [SAGA, 'let mut leftovers = Vec::new();\n        while', 'let mut leftovers = Vec::new();\n        let again = undos.clone();\n        while'],
      [SAGA, 'for left in &leftovers {', 'let facts = Mutex::new(Facts { machine: Machine::NeverMade, key_used: None, is_given_once: false, is_server_gone: false });\n        for undo in again.iter().rev().filter(|_| planted("undo-twice")) {\n            let scene = Scene { run, deadline: end, facts: &facts };\n            let _ = timeout_at(end, undo.undo(&scene)).await;\n        }\n        for left in &leftovers {'],
    ],
  },
]
