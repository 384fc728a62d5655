//! The decoders of both clouds, fed with changed answers (G20 to G31, P28, Y03, Y05).

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::Response;
use proptest::prelude::*;
use provision_vm::tailscale::{KeyId, NodeId};
use provision_vm::transport::{Transport, TransportError};

use super::mutation::{CANARIES, Mutation, mutation, shows_a_canary};
use super::operation::Operation::*;
use super::operation::{ALL, Clouds, Known, Operation};
use super::support::{Cloud, settings};
use super::{cases, complaint_about, paused};

/// Gives the same answer to everything but the token request, which has its own.
struct Script {
    token: Response<Bytes>,
    answer: Response<Bytes>,
    asked: Mutex<u32>,
}

impl Transport for Script {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        *self.asked.lock().unwrap() += 1;
        let answer = if is_token(&request) { &self.token } else { &self.answer };
        let answer = answer.clone();
        Box::pin(async { Ok(answer) })
    }
}

fn is_token(request: &http::Request<Bytes>) -> bool {
    request.uri().path().ends_with("/oauth/token")
}

/// A cloud that keeps its last answers.
struct Recorder {
    cloud: Cloud,
    token: Mutex<Option<Response<Bytes>>>,
    last: Mutex<Option<Response<Bytes>>>,
}

impl Transport for Recorder {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let kept = if is_token(&request) { &self.token } else { &self.last };
            let answer = self.cloud.exchange(request).await;
            *kept.lock().unwrap() = answer.as_ref().ok().cloned();
            answer
        })
    }
}

struct Truth {
    known: Known,
    /// For each operation, the true answers to the token request and to the operation.
    answers: Vec<(Operation, Response<Bytes>, Response<Bytes>)>,
}

/// The true answers, from the simulator.
fn truth() -> &'static Truth {
    static TRUTH: OnceLock<Truth> = OnceLock::new();
    TRUTH.get_or_init(|| paused().block_on(record()))
}

async fn record() -> Truth {
    let cloud = Cloud::usual();
    let done = cloud.provision(&settings()).await.unwrap();
    let key = done.server.labels["auth_key"].clone();
    let description =
        format!("provision-vm {} {}", &done.server.name[done.server.name.len() - 12..], done.server.labels["attempt"]);
    let (server, device) = (done.server, NodeId(done.node_id));
    let known = Known { server, key: KeyId(key), device, description };
    let mut answers = Vec::new();
    // What removes something comes last.
    let (removing, reading): (Vec<Operation>, Vec<Operation>) =
        ALL.iter().copied().partition(|it| matches!(it, Delete | RevokeKey));
    for operation in reading.into_iter().chain(removing) {
        let recorder = Arc::new(Recorder { cloud: cloud.clone(), token: Mutex::default(), last: Mutex::default() });
        let clouds = Clouds::behind(&recorder, operation == TokenRefused);
        let outcome = clouds.ask(operation, &known).await;
        let is_refusal = matches!(operation, CreateRefused | TokenRefused);
        assert_eq!(outcome.is_err(), is_refusal, "{operation:?}: {outcome:?}");
        let last = recorder.last.lock().unwrap().clone();
        let token = recorder.token.lock().unwrap().clone().unwrap_or_default();
        answers.push((operation, token, last.unwrap_or_default()));
    }
    Truth { known, answers }
}

/// Asks with a changed answer, and complains about what must not be.
fn ask(
    operation: Operation,
    may_damage: bool,
    mutate: impl Fn(&Response<Bytes>) -> Response<Bytes>,
) -> Result<(), String> {
    let Truth { known, answers } = truth();
    let (_, token, answer) = answers.iter().find(|(recorded, ..)| *recorded == operation).unwrap();
    let script = match operation {
        Token | TokenRefused => Script { token: mutate(token), answer: answer.clone(), asked: Mutex::default() },
        _ => Script { token: token.clone(), answer: mutate(answer), asked: Mutex::default() },
    };
    let script = Arc::new(script);
    let outcome = paused().block_on(async {
        let clouds = Clouds::behind(&script, false);
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(hour, clouds.ask(operation, known)).await.map_err(|_| "it hangs".to_owned())
    })?;
    let asked = *script.asked.lock().unwrap();
    if asked > 90 {
        return Err(format!("{asked} requests for one question"));
    }
    let is_at_tailscale = ALL.iter().position(|it| *it == operation) >= ALL.iter().position(|it| *it == Token);
    match outcome {
        Ok(seen) => seen.complaint().map_or(Ok(()), Err),
        Err((shown, inside)) => {
            // Tailscale never hears of Hetzner's token, so nothing need hide it there.
            let echoes = [&shown, &inside]
                .map(|text| if is_at_tailscale { text.replace(CANARIES[0], "") } else { text.clone() });
            if !may_damage && echoes.iter().any(|text| shows_a_canary(text)) {
                return Err(format!("a secret is shown: {shown} {inside}"));
            }
            if shown.chars().count() > 5000 {
                return Err(format!("an error of {} characters", shown.chars().count()));
            }
            complaint_about(&shown).map_or(Ok(()), Err)
        }
    }
}

proptest! {
    #![proptest_config(cases(2500))]

    #[test]
    fn g20_whatever_a_cloud_answers_nothing_absurd_is_believed(
        operation in proptest::sample::select(ALL),
        mutation in mutation(),
    ) {
        let outcome = ask(operation, mutation.may_damage(), |answer| Mutation::apply(&mutation, answer));
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}

#[test]
fn g28_huge_and_deep_answers_are_survived() {
    let lists = [
        (ServersByLabel, "servers"),
        (ServerTypes, "server_types"),
        (Actions, "actions"),
        (KeysDescribed, "keys"),
        (Devices, "devices"),
    ];
    for (operation, name) in lists {
        for item in ["null", r#"{"id":1,"name":"x","nodeId":"n1","hostname":"x"}"#] {
            let body = format!(r#"{{"{name}":[{}{item}]}}"#, format!("{item},").repeat(99_999));
            let outcome = ask(operation, false, |_| Response::new(Bytes::from(body.clone())));
            assert_eq!(outcome, Ok(()), "{operation:?} of {item}");
        }
    }
    for operation in [Server, Create, Actions, PrimaryIp, Token, CreateKey, Device] {
        for open in ["[", r#"{"server":"#, r#"{"error":{"details":"#] {
            for status in [200, 422] {
                let mut answer = Response::new(Bytes::from(open.repeat(100_000)));
                *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
                assert_eq!(ask(operation, false, |_| answer.clone()), Ok(()), "{operation:?}, {open}, {status}");
            }
        }
    }
}

#[test]
fn t04_a_token_that_lives_for_ever_is_used() {
    for seconds in ["0", "1", "18446744073709551615", "9007199254740993"] {
        let token = format!(r#"{{"access_token":"tskey-api-k1-x","token_type":"Bearer","expires_in":{seconds}}}"#);
        assert_eq!(ask(Token, false, |_| Response::new(Bytes::from(token.clone()))), Ok(()), "{seconds}");
    }
}

#[test]
fn p28_impossible_ids_of_actions_and_addresses_are_refused() {
    let Truth { known, answers } = truth();
    for id in [0, 1_u64 << 53, u64::MAX] {
        for (operation, path) in
            [(PowerOn, "/action/id"), (Create, "/action/id"), (Server, "/server/public_net/ipv4/id")]
        {
            let (_, token, answer) = answers.iter().find(|(recorded, ..)| *recorded == operation).unwrap();
            let mut json: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            *json.pointer_mut(path).unwrap_or_else(|| panic!("{operation:?} holds no {path}")) = id.into();
            let answer = answer.clone().map(|_| Bytes::from(json.to_string()));
            let script = Script { token: token.clone(), answer, asked: Mutex::default() };
            let seen =
                paused().block_on(async { Clouds::behind(&Arc::new(script), false).ask(operation, known).await });
            let Ok(seen) = seen else { continue };
            let addresses = seen.servers.iter().flat_map(|server| server.primary_ips.iter().map(|id| id.0));
            let absurd = seen.numbers.iter().copied().chain(addresses).find(|id| *id == 0 || *id >= 1 << 53);
            assert_eq!(absurd, None, "{operation:?}");
        }
    }
}
