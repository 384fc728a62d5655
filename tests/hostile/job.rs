//! A whole job with one answer changed: what it believes, what it says, what it leaves (I06, I11, I12, Y05).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use proptest::prelude::*;
use provision_vm::provision::{CancellationToken, Code, Kind, Provisioner};
use provision_vm::transport::{Transport, TransportError};
use serde_json::Value;

use super::mutation::{Mutation, lie_in, mutation, text_fields};
use super::support::{Cloud, Notebook, Outcome, Truth, params, with_timeout};
use super::{cases, complaint_about, paused};

/// A cloud that lies.
struct Liar {
    cloud: Cloud,
    lie: Lie,
    asked: AtomicU32,
    told: Mutex<Vec<String>>,
}

enum Lie {
    /// One answer is changed.
    Once(u32, Mutation),
    /// One field of every answer says this.
    Always(String, &'static str),
}

impl Liar {
    fn new(cloud: &Cloud, lie: Lie) -> Arc<Self> {
        Arc::new(Self { cloud: cloud.clone(), lie, asked: AtomicU32::new(0), told: Mutex::default() })
    }

    fn change(&self, answer: &Response<Bytes>) -> Option<Response<Bytes>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        match &self.lie {
            Lie::Once(at, mutation) => (number == *at).then(|| mutation.apply(answer)),
            Lie::Always(field, text) => {
                let mut json: Value = serde_json::from_slice(answer.body()).ok()?;
                lie_in(&mut json, field, text);
                Some(answer.clone().map(|_| Bytes::from(json.to_string())))
            }
        }
    }
}

impl Transport for Liar {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let line = format!("{} {}", request.method(), request.uri());
            let answer = self.cloud.exchange(request).await?;
            let Some(changed) = self.change(&answer) else { return Ok(answer) };
            let body: String = String::from_utf8_lossy(changed.body()).chars().take(100_000).collect();
            self.told.lock().unwrap().push(format!("{line}: {} {body}", changed.status()));
            Ok(changed)
        })
    }
}

/// Runs a job against the liar, and complains about what must not be. `is_done`: the job was done before, truly.
fn judge(lie: Lie, is_done: bool) -> Result<(), String> {
    paused().block_on(async {
        let cloud = Cloud::usual();
        if is_done {
            cloud.provision(&with_timeout(90)).await.unwrap();
        }
        // That no text holds commands is asked of every field by itself, not by chance.
        let is_everywhere = matches!(lie, Lie::Always(..));
        let liar = Liar::new(&cloud, lie);
        let (params, settings, notes) = (params(), with_timeout(90), Arc::new(Notebook::default()));
        let process = Provisioner::over(liar.clone(), Arc::new(cloud.clone()), 7);
        let call = process.provision(&params, &settings, CancellationToken::new(), notes.clone());
        let outcome = tokio::time::timeout(Duration::from_secs(3600), call).await;
        let told = liar.told.lock().unwrap().first().cloned().unwrap_or_default();
        let Ok(outcome) = outcome else { return Err(format!("it hangs on {told}")) };
        let wrong =
            check_world(&cloud.truth(), &outcome, is_done).or_else(|| check_texts(&notes, &outcome, is_everywhere));
        wrong.map_or(Ok(()), |wrong| Err(format!("{wrong}\n after {told}\n {outcome:?}\n {}", cloud.truth().0)))
    })
}

fn check_world(truth: &Truth, outcome: &Outcome, is_done: bool) -> Option<String> {
    let left = match outcome {
        Err(error) if error.cause.code() == Code::Internal => return Some("it broke down".to_owned()),
        Ok(done) => {
            let ours = |server: &Value| server["id"] == done.server.id.0 && server["labels"]["state"] == "ready";
            let its = |device: &Value| device["ip"] == done.tailscale_ip.to_string();
            let is_true = truth.servers().iter().any(ours) && truth.devices().iter().any(its);
            return (!is_true).then(|| "the result is not true".to_owned());
        }
        // What was handed over before is not this call's to remove.
        Err(_) if is_done => {
            let is_untouched = truth.servers().iter().any(|server| server["labels"]["state"] == "ready");
            return (!is_untouched).then(|| "the finished job was harmed".to_owned());
        }
        Err(error) => &error.leftovers,
    };
    let named = |kind: Kind| left.iter().any(|left| left.kind == kind);
    if !truth.servers().is_empty() && !named(Kind::Server) {
        return Some("a server is left, and not named".to_owned());
    }
    if truth.usable_keys() > 0 && !named(Kind::AuthKey) {
        return Some("a key is left, and not named".to_owned());
    }
    // A device goes with its server, and is named with it.
    let has_unnamed = !truth.devices().is_empty() && !named(Kind::Device) && !named(Kind::Server);
    has_unnamed.then(|| "a device is left, and not named".to_owned())
}

fn check_texts(notes: &Notebook, outcome: &Outcome, with_commands: bool) -> Option<String> {
    let mut texts = notes.messages();
    match outcome {
        Ok(done) => {
            texts.extend([&done.device_id, &done.node_id].map(Clone::clone));
            texts.extend(done.warnings.iter().cloned());
        }
        Err(error) => {
            texts.extend([error.to_string(), error.hint()]);
            texts.extend(error.causes());
            texts.extend(error.cause.request_ids());
            texts.extend(error.leftovers.iter().map(|left| left.why.clone()));
            texts.extend(error.attempts.iter().filter_map(|attempt| attempt.refused.clone()));
        }
    }
    let inside = format!("{outcome:?}");
    // What is shorter was put there by a lie.
    let is_shown = |secret: &String| secret.len() > 20 && inside.contains(secret.as_str());
    if notes.secrets.lock().unwrap().iter().any(is_shown) {
        return Some("a minted secret is in the outcome".to_owned());
    }
    texts.iter().find_map(|text| {
        let is_long = text.chars().count() > 5000;
        is_long.then(|| "an endless text".to_owned()).or_else(|| complaint_about(text).filter(|_| with_commands))
    })
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn i11_one_lie_neither_makes_a_false_result_nor_an_unnamed_server(
        at in 0_u32..24,
        mutation in mutation(),
        is_done in proptest::bool::weighted(0.2),
    ) {
        let outcome = judge(Lie::Once(at, mutation), is_done);
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

/// Every field of every answer that holds text, one after another.
#[test]
fn y05_no_field_of_any_answer_brings_commands_into_a_message() {
    const TEXT: &str = "\u{1b}[2J\r\n::error::x\u{202e} ##[error]../y";
    let cloud = Cloud::usual();
    let liar = Liar::new(&cloud, Lie::Always("no such field".to_owned(), ""));
    let mut fields = BTreeSet::new();
    paused().block_on(async {
        let (params, settings) = (params(), with_timeout(90));
        let process = Provisioner::over(liar.clone(), Arc::new(cloud.clone()), 7);
        process.provision(&params, &settings, CancellationToken::new(), Arc::new(Notebook::default())).await.unwrap();
    });
    for told in liar.told.lock().unwrap().iter() {
        let body = told.split_once(" {").map(|(_, body)| format!("{{{body}"));
        body.and_then(|body| serde_json::from_str(&body).ok()).inspect(|json| text_fields(json, &mut fields));
    }
    assert!(fields.len() > 20, "{fields:?}");
    let lies = fields.iter().flat_map(|field| [(field, false), (field, true)]);
    let wrong: Vec<String> = lies
        .filter_map(|(field, is_done)| {
            let wrong = judge(Lie::Always(field.clone(), TEXT), is_done).err()?;
            Some(format!("{field}, done before: {is_done}: {wrong}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn m12_an_attempt_that_began_at_no_time_is_survived() {
    for moment in ["9223372036854775807", "-9223372036854775808", "-1", "0"] {
        for field in ["attempt_started", "expires"] {
            for is_done in [false, true] {
                assert_eq!(judge(Lie::Always(field.to_owned(), moment), is_done), Ok(()), "{field} {moment} {is_done}");
            }
        }
    }
}
