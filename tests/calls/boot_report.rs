//! What can be said of a machine that does not join: by both clouds, and by itself.

use std::sync::Arc;

use crate::support::{Cloud, Notebook, answer, params, reporting, settings, with_timeout};
use provision_vm::provision::settings::{Additions, Extras, File, Owner};
use provision_vm::provision::{
    CancellationToken, Code, KeyWord, Operation, ProvisionError, Settings, Shown, Silent, Unheard,
};
use provision_vm::secret::Secret;
use serde_json::Value;
use simulator::{Api, BootOutcome, Config};

/// Where the join script finds the address and the token.
const REPORT_FILE: &str = "/root/provision-vm/report";

fn telling(settings: Settings) -> Settings {
    Settings { report: Some(reporting()), ..settings }
}

async fn failure(cloud: &Cloud, settings: &Settings) -> ProvisionError {
    let error = *cloud.provision(settings).await.unwrap_err();
    cloud.truth().assert_empty();
    error
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_how_the_server_stands_and_whether_the_key_was_used() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change, Code, KeyWord, &str); 3] = [
        (
            "M07 never joins",
            |c| c.machine.boot = BootOutcome::NeverJoins,
            Code::EnrollTimeout,
            KeyWord::Awaited,
            "the auth key was never used, so the machine did not get as far as `tailscale up`, or Tailscale refused it.",
        ),
        (
            "M10 waits for approval",
            |c| c.tailscale.never_authorized = true,
            Code::EnrollRejected,
            KeyWord::Used,
            "the auth key was used, or is revoked or expired, so the machine did reach Tailscale, and what the message names is all that is amiss.",
        ),
        (
            "M16 IPv6 only",
            |c| c.tailscale.ipv6_only = true,
            Code::EnrollRejected,
            KeyWord::Used,
            "the auth key was used",
        ),
    ];
    for (name, change, code, key, words) in cases {
        let mut config = Config::default();
        change(&mut config);
        let cloud = Cloud::new(config);
        let error = failure(&cloud, &with_timeout(90)).await;
        assert_eq!(error.cause.code(), code, "{name}: {error:?}");
        let evidence = error.cause.evidence().unwrap();
        assert_eq!((&evidence.server, evidence.key), (&Shown::As("running".to_owned()), key), "{name}");
        let hint = error.hint();
        assert!(hint.starts_with(&code.hint()) && hint.contains(words), "{name}: {hint}");
        assert!(hint.contains(" Hetzner shows the server running; "), "{name}: {hint}");
        assert_eq!(error.unheard, None, "it was not told where to report");
    }
}

#[tokio::test(start_paused = true)]
async fn m05_a_machine_that_was_switched_off_is_told_as_such() {
    let cloud = Cloud::that_never_joins();
    // The time is up before anybody looks at the server, and gives it power.
    let settings = with_timeout(25);
    let switching_off = async {
        cloud.until(|truth| truth.servers().iter().any(|server| server["status"] == "running")).await;
        let id = cloud.truth().servers()[0]["id"].as_u64().unwrap();
        let operator = cloud.told(1);
        let off = Operation::PowerOff(id);
        operator.perform(&off, &self::settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    };
    let (error, ()) = tokio::join!(failure(&cloud, &settings), switching_off);
    assert_eq!(error.cause.code(), Code::EnrollTimeout);
    let words = "Hetzner shows the server off; the auth key was never used, so its machine was not at work when the time was up.";
    assert!(error.hint().ends_with(words), "{}", error.hint());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_not_said() {
    let forbidden = || serde_json::json!({ "error": { "code": "forbidden", "message": "no" }, "message": "no" });
    let cloud = Cloud::that_never_joins();
    let timeout = with_timeout(20);
    let blinding = async {
        // Only the look of the very end reads one server before that, and only it asks the key.
        tokio::time::sleep(std::time::Duration::from_secs(15)).await;
        cloud.fault(Api::Hetzner, "GET", "/servers/*", answer(403, forbidden(), false));
        cloud.fault(Api::Tailscale, "GET", "/tailnet/-/keys/*", answer(403, forbidden(), false));
    };
    let (error, ()) = tokio::join!(failure(&cloud, &timeout), blinding);
    assert_eq!(cloud.truth().faults_fired(), 2);
    let evidence = error.cause.evidence().unwrap();
    assert_eq!((&evidence.server, evidence.key), (&Shown::Unseen, KeyWord::Mute));
    assert!(error.hint().ends_with(" The auth key cannot tell whether it was used."), "{}", error.hint());
}

/// The token in a server's user data, and where it stands.
fn token_in(user_data: &str) -> String {
    let document: Value = serde_json::from_str(user_data.strip_prefix("#cloud-config\n").unwrap()).unwrap();
    let files = document["write_files"].as_array().unwrap();
    let file = files.iter().find(|file| file["path"] == REPORT_FILE).unwrap();
    assert_eq!((&file["permissions"], &file["owner"]), (&"0600".into(), &"root:root".into()));
    let content = file["content"].as_str().unwrap();
    let line = format!("url = \"{}\"\nheader = \"Authorization: Bearer ", reporting().url);
    let token = content.strip_prefix(&line).and_then(|rest| rest.strip_suffix("\"\n")).unwrap().to_owned();
    assert_eq!(user_data.matches(&token).count(), 1);
    token
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_token_of_its_own_that_logs_can_mask() {
    let cloud = Cloud::usual();
    let mut tokens = Vec::new();
    for job in ["job-1", "job-2"] {
        let notes = Arc::new(Notebook::default());
        let params = provision_vm::provision::Params { job_id: job.to_owned(), ..params() };
        let settings = telling(settings());
        let done =
            cloud.process(7).provision(&params, &settings, CancellationToken::new(), notes.clone()).await.unwrap();
        let world = cloud.world();
        let token = token_in(world.user_data(done.server.id.0).unwrap());
        assert!(notes.secrets.lock().unwrap().contains(&token));
        assert!(!world.user_data(done.server.id.0).unwrap().contains("whsec_"), "no machine gets the secret");
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_told_to_report_and_did_not_join_is_named() {
    let cloud = Cloud::that_never_joins();
    let settings = telling(with_timeout(60));
    let seen = async {
        cloud.until(|truth| !truth.servers().is_empty()).await;
        let truth = cloud.truth();
        let server = &truth.servers()[0];
        Unheard {
            job_id: params().job_id,
            server_name: server["name"].as_str().unwrap().to_owned(),
            attempt: server["labels"]["attempt"].as_str().unwrap().to_owned(),
        }
    };
    let (error, machine) = tokio::join!(failure(&cloud, &settings), seen);
    assert_eq!(error.unheard, Some(machine));
    // Nothing was made, so there is nobody to ask.
    let cloud = Cloud::usual();
    let kind = answer(403, serde_json::json!({ "message": "not allowed" }), false);
    cloud.fault(Api::Tailscale, "GET", "/tailnet/-/devices", kind);
    assert_eq!(failure(&cloud, &settings).await.unheard, None);
}

#[tokio::test(start_paused = true)]
async fn its_token_is_counted_before_there_is_a_key() {
    let sized = |size: usize| {
        let (content, owner) = (Secret::new("x".repeat(size)), Owner::default());
        let file = File { path: "/a".into(), content, permissions: "0600".into(), owner };
        let extras = Extras { additions: Additions { files: vec![file], ..Additions::default() }, ..Extras::default() };
        telling(Settings { extras, ..settings() })
    };
    // The largest file that is not refused at once also fits with its real key and token.
    let (mut fits, mut too_large) = (0, 32 * 1024);
    while too_large - fits > 1 {
        let size = usize::midpoint(fits, too_large);
        let cloud = Cloud::usual();
        match cloud.provision(&sized(size)).await {
            Ok(_) => fits = size,
            Err(error) => {
                assert_eq!((error.cause.code(), error.cause.field()), (Code::InvalidInput, Some("options.userData")));
                assert_eq!(cloud.truth().requests("hetzner") + cloud.truth().requests("tailscale"), 0);
                too_large = size;
            }
        }
    }
    assert!(fits > 10_000, "{fits}");
}
