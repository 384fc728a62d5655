//! From JSON text to a checked call. Every complaint names its path.

use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;

use super::extras;
use super::fields::{Fields, is_plain};
use super::settings::{self, Environment, Purpose};
use crate::provision::settings::{Extras, Network, WorkflowRun, clean};
use crate::provision::{Cause, Params, ReapOptions, Settings, TraceContext};

/// Everything that one call brings, with what it is about.
pub(super) struct Input<T> {
    pub what: T,
    pub settings: Settings,
    pub network: Network,
    /// The filter for diagnostic lines, if any is asked for.
    pub log_filter: Option<String>,
}

/// What may stand in the options, apart from what `index.js` keeps for itself.
#[derive(Default)]
pub(super) struct Options {
    pub timeout: Option<Duration>,
    pub lifetime: Option<Duration>,
    pub server_types: Option<Vec<String>>,
    pub image: Option<String>,
    pub strict_region: bool,
    pub ephemeral: Option<bool>,
    pub allow_reusable_auth_key: bool,
    pub extras: Extras,
    pub reach: Option<u16>,
    pub run: Option<WorkflowRun>,
    pub warnings: Vec<String>,
}

/// What to provision, and whether to wait for it.
#[derive(Debug)]
pub(super) struct Wanted {
    pub params: Params,
    pub waits: bool,
}

const LONGEST_REGION: usize = 63;
/// SSH's.
const USUAL_PORT: u16 = 22;
/// No machine boots and joins in less.
const SHORTEST_LIFE_MS: f64 = 60_000.0;

/// Reads and checks `{ params, options, env }`: what to provision.
pub(super) fn read(text: &str) -> Result<Input<Wanted>, Cause> {
    let input = parse(text)?;
    let params = read_params(input.get("params"))?;
    let (options, waits) = read_options(input.get("options"), &[])?;
    complete(&input, Wanted { params, waits }, options, Purpose::Provision)
}

/// Reads and checks `{ options, env }`: how to reap.
pub(super) fn read_reap(text: &str) -> Result<Input<ReapOptions>, Cause> {
    const KNOWN: [&str; 3] = ["dryRun", "graceMs", "timeoutMs"];
    let input = parse(text)?;
    let Some(value) = input.get("options").filter(|value| !value.is_null()) else {
        return complete(&input, ReapOptions::default(), Options::default(), Purpose::Reap);
    };
    let fields = Fields::new("options", Some(value))?;
    let usual = ReapOptions::default();
    let reap = ReapOptions {
        dry_run: fields.flag("dryRun")?.unwrap_or(usual.dry_run),
        grace: fields.duration("graceMs", 0.0)?.unwrap_or(usual.grace),
    };
    let (timeout, warnings) = (fields.duration("timeoutMs", 1.0)?, fields.unknown(&KNOWN));
    complete(&input, reap, Options { timeout, warnings, ..Options::default() }, Purpose::Reap)
}

pub(super) fn parse(text: &str) -> Result<Value, Cause> {
    serde_json::from_str(text).map_err(|_| Cause::Internal("the input is no JSON".to_owned()))
}

/// The options of a call. None are as good as empty ones.
pub(super) fn options_of(input: &Value) -> &Value {
    static NONE: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));
    input.get("options").filter(|value| !value.is_null()).unwrap_or(&NONE)
}

/// Adds what a call brings beside what it is about.
pub(super) fn complete<T>(input: &Value, what: T, options: Options, purpose: Purpose) -> Result<Input<T>, Cause> {
    let environment = Environment::read(input.get("env"))?.overlay(input.get("options"))?;
    let network = settings::network(&environment)?;
    let log_filter = environment.get("PROVISION_VM_LOG").or_else(|| environment.get("RUST_LOG")).map(str::to_owned);
    Ok(Input { what, settings: settings::read(&environment, options, purpose)?, network, log_filter })
}

/// Longer than any id that a call accepts, and shorter than a token.
const LONGEST_NOTED: usize = 63;

/// What a call's span begins with.
pub(super) struct Trace {
    /// What the call is called.
    pub name: String,
    /// What it is part of. A `traceparent` that cannot be read comes from outside as a rule, and must not stop a call: then it is a trace
    /// of its own (W3C Trace Context, 3.2).
    pub within: Option<TraceContext>,
    /// The job that it is about, by attributes.
    pub job: Vec<(&'static str, String)>,
}

/// What `index.js` says of spans, if somebody listens to them.
pub(super) fn read_trace(text: &str) -> Option<Trace> {
    if !text.contains("\"trace\":{") {
        return None;
    }
    let input = parse(text).ok()?;
    let text = |of: &str, name| input.get(of)?.get(name)?.as_str();
    let of_job = |name| text("params", name).or_else(|| text("target", name)).filter(|id| id.len() <= LONGEST_NOTED);
    let ids = [("provision_vm.job_id", of_job("jobId")), ("provision_vm.agent_id", of_job("agentId"))];
    Some(Trace {
        name: text("trace", "name")?.to_owned(),
        within: text("trace", "parent").and_then(TraceContext::parse),
        job: ids.into_iter().filter_map(|(name, id)| Some((name, id?.to_owned()))).collect(),
    })
}

pub(super) fn read_params(value: Option<&Value>) -> Result<Params, Cause> {
    let fields = Fields::new("params", value)?;
    let required = |name| fields.text(name)?.ok_or_else(|| fields.refuse(name, "is required"));
    let params = Params { job_id: required("jobId")?, agent_id: required("agentId")?, region: required("region")? };
    check_region(&fields, &params.region)?;
    Ok(params)
}

/// The region, where it may be left out.
pub(super) fn read_region(fields: &Fields<'_>) -> Result<Option<String>, Cause> {
    let region = fields.text("region")?;
    region.as_deref().map_or(Ok(()), |region| check_region(fields, region))?;
    Ok(region)
}

fn check_region(fields: &Fields<'_>, region: &str) -> Result<(), Cause> {
    if region.is_empty() || region.len() > LONGEST_REGION || region != clean(region) {
        return Err(fields.refuse("region", "must be 1 to 63 printable characters"));
    }
    Ok(())
}

/// The options, and whether to wait for the machine. `own` are others that the call reads for itself.
pub(super) fn read_options(value: Option<&Value>, own: &[&'static str]) -> Result<(Options, bool), Cause> {
    const KNOWN: [&str; 11] = [
        "timeoutMs",
        "finishWithinMs",
        "serverTypes",
        "image",
        "strictRegion",
        "ephemeral",
        "allowReusableAuthKey",
        "wait",
        "waitFor",
        "reachablePort",
        "runId",
    ];
    if value.is_none_or(Value::is_null) {
        return Ok((Options::default(), true));
    }
    let fields = Fields::new("options", value)?;
    let image = fields.text("image")?;
    if image.as_deref().is_some_and(|image| !is_plain(image)) {
        return Err(fields.refuse("image", "must be the name or id of an image"));
    }
    let known: Vec<&str> = KNOWN.into_iter().chain(extras::KNOWN).chain(own.iter().copied()).collect();
    let options = Options {
        timeout: fields.duration("timeoutMs", 1.0)?,
        lifetime: fields.duration("finishWithinMs", SHORTEST_LIFE_MS)?,
        server_types: read_server_types(&fields)?,
        image,
        strict_region: fields.flag("strictRegion")?.unwrap_or_default(),
        ephemeral: fields.flag("ephemeral")?,
        allow_reusable_auth_key: fields.flag("allowReusableAuthKey")?.unwrap_or_default(),
        extras: extras::read(&fields)?,
        reach: read_reach(&fields)?,
        run: fields.text("runId")?.map(|id| read_run(&fields, "runId", &id)).transpose()?,
        warnings: fields.unknown(&known),
    };
    Ok((options, fields.flag("wait")?.unwrap_or(true)))
}

/// The run of a workflow.
pub(super) fn read_run(fields: &Fields<'_>, name: &str, id: &str) -> Result<WorkflowRun, Cause> {
    let why = "must be 1 to 63 characters (letters, digits, '-', '_', '.'), alphanumeric at both ends";
    WorkflowRun::new(id).ok_or_else(|| fields.refuse(name, why))
}

/// The port on which the machine has to be reached, if it has to be.
fn read_reach(fields: &Fields<'_>) -> Result<Option<u16>, Cause> {
    let is_asked_for = match fields.text("waitFor")?.as_deref() {
        None | Some("enrolled") => false,
        Some("reachable") => true,
        Some(_) => return Err(fields.refuse("waitFor", "must be 'enrolled' or 'reachable'")),
    };
    let port = fields.whole("reachablePort", 1, u16::MAX.into())?.and_then(|port| u16::try_from(port).ok());
    if port.is_some() && !is_asked_for {
        return Err(fields.refuse("reachablePort", "needs waitFor: 'reachable'"));
    }
    Ok(is_asked_for.then(|| port.unwrap_or(USUAL_PORT)))
}

fn read_server_types(fields: &Fields<'_>) -> Result<Option<Vec<String>>, Cause> {
    let name = |value: &Value| value.as_str().filter(|name| is_plain(name)).map(str::to_owned);
    let several = fields.set("serverTypes", 20, "the name of a server type", name)?;
    match (fields.text("serverType")?, several) {
        (Some(_), Some(_)) => Err(fields.refuse("serverType", "cannot be given together with options.serverTypes")),
        (Some(one), None) if is_plain(&one) => Ok(Some(vec![one])),
        (Some(_), None) => Err(fields.refuse("serverType", "must be the name of a server type")),
        (None, several) => Ok(several),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::provision::{Code, Source};

    fn env() -> Value {
        json!({
            "HETZNER_API_TOKEN": " token\n",
            "HETZNER_SSH_KEY_ID": "4711, ci-key",
            "TAILSCALE_OAUTH_CLIENT_ID": "k1",
            "TAILSCALE_OAUTH_CLIENT_SECRET": "tskey-client-k1-x",
        })
    }

    fn call(change: impl Fn(&mut Value)) -> Result<Input<Wanted>, Cause> {
        let params = json!({ "jobId": "job-1", "agentId": "agent-1", "region": "us-east" });
        let mut input = json!({ "params": params, "options": {}, "env": env() });
        change(&mut input);
        read(&input.to_string())
    }

    #[test]
    fn a_plain_call_gets_every_default() {
        let Input { what: Wanted { params, waits }, settings, .. } =
            call(|_| ()).unwrap_or_else(|cause| panic!("{cause}"));
        assert!(waits && settings.extras == Extras::default());
        assert_eq!(params.region, "us-east");
        assert_eq!(settings.hetzner_url.to_string(), "https://api.hetzner.cloud/v1");
        assert_eq!(settings.hetzner_token.expose(), "token");
        assert_eq!(settings.ssh_keys.len(), 2);
        assert!(settings.ephemeral && !settings.strict_region && !settings.source.is_snapshot());
        assert_eq!(settings.timeout, Duration::from_secs(600));
        assert!(settings.warnings.is_empty());
    }

    #[test]
    fn a_wrong_argument_is_named_by_its_path() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str, &str); 23] = [
            (|i| i["params"] = json!(null), "params", "found null"),
            (|i| i["params"]["jobId"] = json!(5), "params.jobId", "found a number"),
            (|i| i["params"]["jobId"] = json!({ "$unsupported": "function" }), "params.jobId", "found a function"),
            (|i| i["params"]["agentId"] = json!(null), "params.agentId", "is required"),
            (|i| i["params"]["region"] = json!("x".repeat(64)), "params.region", "63"),
            (|i| i["params"]["region"] = json!("a\nb"), "params.region", "printable"),
            (|i| i["options"] = json!([]), "options", "found an array"),
            (|i| i["options"]["timeoutMs"] = json!("5"), "options.timeoutMs", "found a string"),
            (|i| i["options"]["timeoutMs"] = json!(0), "options.timeoutMs", "between"),
            (|i| i["options"]["serverTypes"] = json!([]), "options.serverTypes", "1 to 20"),
            (|i| i["options"] = json!({ "serverType": "a", "serverTypes": ["b"] }), "options.serverType", "together"),
            (|i| i["options"]["wait"] = json!(0), "options.wait", "true or false"),
            (|i| i["options"]["waitFor"] = json!("ready"), "options.waitFor", "'reachable'"),
            (|i| i["options"]["waitFor"] = json!(true), "options.waitFor", "found a boolean"),
            (|i| i["options"]["reachablePort"] = json!(22), "options.reachablePort", "needs waitFor"),
            (
                |i| i["options"] = json!({ "waitFor": "enrolled", "reachablePort": 22 }),
                "options.reachablePort",
                "needs waitFor",
            ),
            (
                |i| i["options"] = json!({ "waitFor": "reachable", "reachablePort": 0 }),
                "options.reachablePort",
                "between 1",
            ),
            (
                |i| i["options"] = json!({ "waitFor": "reachable", "reachablePort": 65_536 }),
                "options.reachablePort",
                "65535",
            ),
            (|i| i["options"]["finishWithinMs"] = json!(9_000), "options.finishWithinMs", "between"),
            (|i| i["options"]["labels"] = json!({ "agent_id": "x" }), "options.labels.agent_id", "own"),
            (|i| i["options"]["serverTypes"] = json!(["cpx11", 5]), "options.serverTypes[1]", "found a number"),
            (|i| i["options"]["image"] = json!("a b"), "options.image", "name or id"),
            (|i| i["options"]["strictRegion"] = json!("yes"), "options.strictRegion", "true or false"),
        ];
        for (change, field, why) in cases {
            let cause = call(change).err().unwrap_or_else(|| panic!("{field} is accepted"));
            assert_eq!((cause.code(), cause.field()), (Code::InvalidInput, Some(field)));
            assert!(cause.to_string().contains(why), "{cause}");
        }
    }

    #[test]
    fn a_wrong_timeout_is_no_matter_where_an_option_stands_for_it() {
        let wrong = |options: Value| {
            call(|input| {
                input["env"]["PROVISION_TIMEOUT_SECONDS"] = json!("soon");
                input["options"] = options.clone();
            })
        };
        let settings = wrong(json!({ "timeoutMs": 5000 })).unwrap_or_else(|cause| panic!("{cause}")).settings;
        assert_eq!((settings.timeout, settings.lifetime), (Duration::from_secs(5), Duration::from_secs(600)));
        assert!(wrong(json!({})).is_err() && wrong(json!({ "finishWithinMs": 60_000 })).is_err());
    }

    fn reporting(env: &mut Value, url: &str, secret: &str) {
        (env["BOOT_REPORT_URL"], env["BOOT_REPORT_SECRET"]) = (json!(url), json!(secret));
    }

    #[test]
    fn where_machines_report_is_read_as_it_stands() {
        for url in ["https://app.example/boot/?key=1", "http://127.0.0.1:3000/boot", "http://localhost:3000"] {
            let input = call(|input| reporting(&mut input["env"], url, "sixteen-letters!"));
            let report = input.unwrap_or_else(|cause| panic!("{url}: {cause}")).settings.report.unwrap();
            assert_eq!((report.url.as_str(), report.secret.expose()), (url, "sixteen-letters!"));
        }
        let input = call(|input| {
            reporting(&mut input["env"], "nonsense", "sixteen-letters!");
            input["options"]["bootReportUrl"] = json!("https://app.example/boot");
        });
        assert!(input.unwrap_or_else(|cause| panic!("{cause}")).settings.report.is_some());
        for (url, secret, field) in [
            (json!("https://app.example/"), json!(null), "bootReportUrl"),
            (json!(null), json!("sixteen-letters!"), "bootReportSecret"),
            (json!("nonsense"), json!("sixteen-letters!"), "bootReportUrl"),
            (json!("https://app.example/"), json!("short"), "bootReportSecret"),
        ] {
            let cause =
                call(|i| i["options"] = json!({ "bootReportUrl": url, "bootReportSecret": secret })).err().unwrap();
            let field = format!("options.{field}");
            assert_eq!((cause.code(), cause.field()), (Code::InvalidInput, Some(field.as_str())), "{cause}");
        }
        // What a call does not use cannot be wrong for it.
        let mut env = env();
        reporting(&mut env, "nonsense", "short");
        assert!(read_reap(&json!({ "env": env }).to_string()).is_ok());
    }

    #[test]
    fn a_machine_is_reached_only_where_that_is_asked_for() {
        for (options, port) in [
            (json!({}), None),
            (json!({ "waitFor": null, "reachablePort": null }), None),
            (json!({ "waitFor": "enrolled" }), None),
            (json!({ "waitFor": "reachable" }), Some(22)),
            (json!({ "waitFor": "reachable", "reachablePort": null }), Some(22)),
            (json!({ "waitFor": "reachable", "reachablePort": 65_535 }), Some(65_535)),
        ] {
            let input = call(|input| input["options"] = options.clone()).unwrap_or_else(|cause| panic!("{cause}"));
            assert_eq!((input.settings.reach, input.settings.warnings.len()), (port, 0), "{options}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 23] = [
            (|e| e["HETZNER_API_TOKEN"] = json!(""), "HETZNER_API_TOKEN"),
            (|e| e["HETZNER_API_TOKEN"] = json!("a\nb"), "HETZNER_API_TOKEN"),
            (|e| e["HETZNER_SSH_KEY_ID"] = json!("1,,2"), "HETZNER_SSH_KEY_ID"),
            (|e| e["HETZNER_SSH_KEY_ID"] = json!(null), "HETZNER_SSH_KEY_ID"),
            (|e| e["TAILSCALE_OAUTH_CLIENT_ID"] = json!(null), "TAILSCALE_OAUTH_CLIENT_ID"),
            (|e| e["TAILSCALE_OAUTH_CLIENT_SECRET"] = json!(" "), "TAILSCALE_OAUTH_CLIENT_SECRET"),
            (|e| e["TAILSCALE_AUTH_KEY"] = json!("tskey auth"), "TAILSCALE_AUTH_KEY"),
            (|e| e["HETZNER_API_URL"] = json!("http://api.hetzner.cloud/v1"), "HETZNER_API_URL"),
            (|e| e["TAILSCALE_API_URL"] = json!("nonsense"), "TAILSCALE_API_URL"),
            (|e| e["HETZNER_SNAPSHOT_ID"] = json!("my snapshot"), "HETZNER_SNAPSHOT_ID"),
            (|e| e["PROVISION_TIMEOUT_SECONDS"] = json!("ten"), "PROVISION_TIMEOUT_SECONDS"),
            (|e| e["HTTPS_PROXY"] = json!("http://[bad"), "HTTPS_PROXY"),
            (|e| e["BOOT_REPORT_URL"] = json!("https://app.example/boot"), "BOOT_REPORT_URL"),
            (|e| e["BOOT_REPORT_SECRET"] = json!("sixteen-letters!"), "BOOT_REPORT_SECRET"),
            (|e| reporting(e, "http://app.example/boot", "sixteen-letters!"), "BOOT_REPORT_URL"),
            (|e| reporting(e, "https://a:b@app.example/boot", "sixteen-letters!"), "BOOT_REPORT_URL"),
            (|e| reporting(e, "https://app.example/\"", "sixteen-letters!"), "BOOT_REPORT_URL"),
            (|e| reporting(e, "https://app.example/{a,b}", "sixteen-letters!"), "BOOT_REPORT_URL"),
            (|e| reporting(e, "https://app.example/boot?a#b", "sixteen-letters!"), "BOOT_REPORT_URL"),
            (
                |e| reporting(e, &format!("https://app.example/{}", "x".repeat(1024)), "sixteen-letters!"),
                "BOOT_REPORT_URL",
            ),
            (|e| reporting(e, "https://app.example/boot", "fifteen-letters"), "BOOT_REPORT_SECRET"),
            (|e| reporting(e, "https://app.example/boot", "whsec_????????????????????????"), "BOOT_REPORT_SECRET"),
            (|e| reporting(e, "https://app.example/boot", "a blank in sixteen"), "BOOT_REPORT_SECRET"),
        ];
        for (change, setting) in cases {
            let cause =
                call(|input| change(&mut input["env"])).err().unwrap_or_else(|| panic!("{setting} is accepted"));
            assert_eq!((cause.code(), cause.field()), (Code::Config, Some(setting)), "{cause}");
        }
    }

    #[test]
    fn options_that_stand_for_a_variable_win_and_are_named_in_complaints() {
        let input = call(|input| {
            input["options"] = json!({
                "hetznerToken": "other", "sshKeys": [5, "ci-key"], "snapshotId": 12345,
                "hetznerApiUrl": "http://127.0.0.1:1/v1", "tailscaleClientId": null, "tailscaleApiUrl": "http://[::1]:2/v2",
            });
        });
        let Input { settings, .. } = input.unwrap_or_else(|cause| panic!("{cause}"));
        assert_eq!((settings.hetzner_token.expose(), settings.ssh_keys.len()), ("other", 2));
        assert_eq!(settings.hetzner_url.to_string(), "http://127.0.0.1:1/v1");
        assert!(settings.source.is_snapshot() && settings.warnings.is_empty(), "{:?}", settings.warnings);
        for (name, value) in [
            ("hetznerToken", json!("")),
            ("hetznerToken", json!(5)),
            ("hetznerToken", json!("a b")),
            ("hetznerApiUrl", json!("http://api.hetzner.cloud/v1")),
            ("sshKeys", json!("5")),
            ("sshKeys", json!([])),
            ("sshKeys", json!(["a,b"])),
            ("sshKeys", json!([1.5])),
            ("snapshotId", json!("my snapshot")),
            ("tailscaleClientSecret", json!("a\nb")),
            ("tailscaleAuthKey", json!("k")),
            ("tailscaleApiUrl", json!("nonsense")),
        ] {
            let cause = call(|input| input["options"] = json!({ name: value })).err();
            let cause = cause.unwrap_or_else(|| panic!("{name} {value} is accepted"));
            assert_eq!(
                (cause.code(), cause.field()),
                (Code::InvalidInput, Some(format!("options.{name}").as_str())),
                "{value}"
            );
        }
    }

    #[test]
    fn missing_settings_are_named_all_at_once() {
        let cause = call(|input| input["env"] = json!({})).err().map(|cause| cause.to_string()).unwrap_or_default();
        for name in env().as_object().unwrap().keys() {
            assert!(cause.contains(name.as_str()), "{name} is not in: {cause}");
        }
    }

    #[test]
    fn options_override_settings_and_unknown_ones_are_reported() {
        let input = call(|input| {
            input["env"]["PROVISION_TIMEOUT_SECONDS"] = json!("60");
            input["options"] =
                json!({ "timeoutMs": 1500, "ephemeral": false, "serverTypes": ["cpx22"], "onProgess": 1 });
        });
        let settings = input.unwrap_or_else(|cause| panic!("{cause}")).settings;
        assert_eq!(settings.timeout, Duration::from_millis(1500));
        assert!(!settings.ephemeral);
        assert_eq!(settings.server_types, ["cpx22"]);
        assert_eq!(settings.warnings, ["Unknown option onProgess is ignored; did you mean onProgress?"]);
    }

    #[test]
    fn reaping_is_a_dry_run_unless_told_otherwise_and_needs_no_ssh_key() {
        let mut env = env();
        env["HETZNER_SSH_KEY_ID"] = Value::Null;
        let call = |options: Value| read_reap(&json!({ "options": options, "env": env }).to_string());
        for options in [Value::Null, json!({}), json!({ "dryRun": null })] {
            let input = call(options).unwrap_or_else(|cause| panic!("{cause}"));
            assert_eq!(input.what, ReapOptions { dry_run: true, grace: Duration::from_secs(300) });
        }
        let input = call(json!({ "dryRun": false, "graceMs": 0, "dryrun": true })).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(input.what, ReapOptions { dry_run: false, grace: Duration::ZERO });
        assert_eq!(input.settings.warnings, ["Unknown option dryrun is ignored; did you mean dryRun?"]);
        for (options, field) in [
            (json!({ "dryRun": "no" }), "options.dryRun"),
            (json!({ "graceMs": -1 }), "options.graceMs"),
            (json!({ "graceMs": 86_400_001 }), "options.graceMs"),
            (json!("now"), "options"),
        ] {
            let cause = call(options).err().unwrap_or_else(|| panic!("{field} is accepted"));
            assert_eq!((cause.code(), cause.field()), (Code::InvalidInput, Some(field)));
        }
    }

    #[test]
    fn a_snapshot_and_workload_identity_are_read() {
        let input = call(|input| {
            input["env"]["HETZNER_SNAPSHOT_ID"] = json!("12345");
            input["env"]["TAILSCALE_OAUTH_CLIENT_SECRET"] = json!("");
            input["env"]["ACTIONS_ID_TOKEN_REQUEST_URL"] = json!("https://issuer.example/token?api-version=2.0");
            input["env"]["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = json!("t");
        });
        let settings = input.unwrap_or_else(|cause| panic!("{cause}")).settings;
        assert!(matches!(settings.source, Source::Snapshot(_)));
        assert!(matches!(settings.tailscale_credentials, crate::provision::settings::Credentials::Federated { .. }));
    }
}
