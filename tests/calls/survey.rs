//! Looks over all jobs, over one to come and over the set-up: they say what is so, and change nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Cloud, fault, params, settings, with_timeout};
use provision_vm::hetzner::IdOrName;
use provision_vm::provision::{
    CancellationToken, Code, Diagnosis, Intent, Params, Patient, Plan, ProvisionError, Readable, Settings, Silent,
    State, Verdict, VmList,
};
use simulator::{Api, Config, FaultKind, PlantedServer};

async fn plan(cloud: &Cloud, params: &Params, settings: &Settings) -> Result<Plan, Box<ProvisionError>> {
    cloud.told(3).plan(params, settings, CancellationToken::new(), Arc::new(Silent)).await
}

async fn diagnose(cloud: &Cloud, cancel: CancellationToken) -> Result<Diagnosis, Box<ProvisionError>> {
    let patient = Patient { region: Some("us-east".to_owned()), complaints: Vec::new(), knows: Readable::ALL };
    cloud.told(3).diagnose(&patient, &settings(), cancel, Arc::new(Silent)).await
}

/// How many requests of the journal change something.
fn writes(cloud: &Cloud) -> Vec<String> {
    let world = cloud.world();
    let is_write = |what: &&str| ["POST ", "PUT ", "DELETE "].iter().any(|method| what.starts_with(method));
    world.journal().iter().map(|entry| entry.what.as_str()).filter(is_write).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_plan_names_what_the_call_then_takes() {
    let cloud = Cloud::usual();
    let planned = plan(&cloud, &params(), &settings()).await.unwrap();
    assert_eq!((planned.intent, planned.server_id, writes(&cloud).len()), (Intent::Create, None, 0));
    let first = planned.candidates.iter().find(|planned| planned.candidate.refused.is_none()).unwrap();
    let made = cloud.provision(&settings()).await.unwrap();
    assert_eq!((&made.server.name, &made.server.server_type), (&planned.server_name, &first.candidate.server_type));
    assert_eq!((made.price.as_ref(), &made.server.location), (planned.price(), &planned.locations[0]));

    let again = plan(&cloud, &params(), &settings()).await.unwrap();
    assert_eq!((again.intent, again.server_id), (Intent::Return, Some(made.server.id.0)));
}

#[tokio::test(start_paused = true)]
async fn a_plan_knows_what_others_do_and_what_died() {
    for (seconds, intent) in [(20, Intent::Follow), (900, Intent::Replace)] {
        let cloud = Cloud::that_never_joins();
        let brief = with_timeout(60);
        let other = tokio::time::timeout(Duration::from_secs(15), cloud.provision(&brief)).await;
        assert!(other.is_err(), "its process dies");
        tokio::time::sleep(Duration::from_secs(seconds - 15)).await;
        let planned = plan(&cloud, &params(), &settings()).await.unwrap();
        assert_eq!(planned.intent, intent);
        tokio::time::sleep(Duration::from_secs(900)).await;
        cloud.provision(&with_timeout(60)).await.unwrap_err();
    }
    let cloud = Cloud::usual();
    let process = cloud.process(5);
    process.begin(&params(), &settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    assert_eq!(plan(&cloud, &params(), &settings()).await.unwrap().intent, Intent::Finish);
    cloud.provision(&settings()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_plan_fails_with_what_the_call_would_fail_with() {
    let cloud = Cloud::usual();
    let name = plan(&cloud, &params(), &settings()).await.unwrap().server_name;
    let other_agent = Params { agent_id: "other".to_owned(), ..params() };
    cloud.provision(&settings()).await.unwrap();
    assert_eq!(plan(&cloud, &other_agent, &settings()).await.unwrap_err().cause.code(), Code::JobMismatch);

    let cloud = Cloud::usual();
    cloud.world().plant_server(PlantedServer { name, ..Default::default() });
    assert_eq!(plan(&cloud, &params(), &settings()).await.unwrap_err().cause.code(), Code::NameConflict);
    let wrong = Params { job_id: "a b".to_owned(), ..params() };
    assert_eq!(plan(&cloud, &wrong, &settings()).await.unwrap_err().cause.code(), Code::InvalidInput);

    let nothing = Settings { server_types: vec!["cax11".to_owned()], ..settings() };
    let planned = plan(&Cloud::usual(), &params(), &nothing).await.unwrap();
    assert_eq!((planned.price(), planned.candidates[0].candidate.refused.is_some()), (None, true));
}

#[tokio::test(start_paused = true)]
async fn the_list_has_all_that_is_ours_and_what_it_has_cost() {
    let cloud = Cloud::usual();
    let list = async || cloud.told(3).list(&settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    assert_eq!((list().await.vms.len(), list().await.requests), (0, (1, 0)));
    let made = cloud.provision(&settings()).await.unwrap();
    cloud.world().plant_server(PlantedServer { name: "shop".to_owned(), ..Default::default() });
    let labels = [("managed_by".to_owned(), "provision-vm".to_owned())].into();
    cloud.world().plant_server(PlantedServer { name: "relabelled".to_owned(), labels, ..Default::default() });
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let second = Params { job_id: "job-2".to_owned(), ..params() };
    let process = cloud.process(5);
    process.begin(&second, &settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    let VmList { vms, warnings, .. } = list().await;
    assert!(matches!(&warnings[..], [warning] if warning.starts_with("Server relabelled (")), "{warnings:?}");
    let [ready, young] = vms.as_slice() else { panic!("{vms:?}") };
    assert_eq!((ready.state, ready.job.as_str(), ready.server.id), (State::Ready, "job-1", made.server.id));
    assert_eq!((ready.node_id.as_ref(), ready.price.as_ref()), (Some(&made.node_id), made.price.as_ref()));
    assert_eq!((ready.cost.as_deref(), ready.expires_in), (Some("0.099"), None), "three hours have begun");
    assert_eq!((young.state, young.job.as_str(), young.cost.as_deref()), (State::Creating, "job-2", Some("0.033")));
    assert!(young.expires_in.is_some() && young.age < Duration::from_secs(60));
    // Its machine joins and nobody comes for it.
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(list().await.vms[1].state, State::Expired);

    cloud.fault(Api::Hetzner, "GET", "/server_types", FaultKind::Refuse);
    let blind = cloud.told(4).list(&settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
    assert!(!blind.vms.is_empty());
    cloud.provision(&settings()).await.unwrap();
    process.provision(&second, &settings(), CancellationToken::new(), Arc::new(Silent)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_doctors_key_is_revoked_whatever_happens() {
    let usual = Cloud::usual();
    let found = diagnose(&usual, CancellationToken::new()).await.unwrap();
    let wrong = found.checks.iter().filter(|check| check.verdict == Verdict::Failed).collect::<Vec<_>>();
    assert!(found.is_healthy() && wrong.is_empty(), "{wrong:?}");
    usual.truth().assert_empty();

    for (kind, is_healthy) in
        [(FaultKind::ResetAfterApply, true), (FaultKind::HangAfterApply, true), (FaultKind::Refuse, true)]
    {
        let cloud = Cloud::usual();
        cloud.world().inject(fault(Api::Tailscale, "POST", "/tailnet/-/keys", 1, kind.clone()));
        let found = diagnose(&cloud, CancellationToken::new()).await.unwrap();
        assert_eq!(found.is_healthy(), is_healthy, "{kind:?}: {found:?}");
        cloud.truth().assert_empty();
    }

    // It is given up at every moment of it.
    for milliseconds in (0..1500).step_by(50) {
        let (cloud, cancel) = (Cloud::usual(), CancellationToken::new());
        let ends = async {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            cancel.cancel();
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = diagnose(&cloud, cancel.clone()) => outcome,
            () = ends => unreachable!(),
        };
        if let Err(error) = outcome {
            assert_eq!((error.cause.code(), error.leftovers.as_slice()), (Code::Aborted, &[][..]), "{milliseconds}");
        }
        cloud.truth().assert_empty();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_revoked_is_named_and_ends_by_itself() {
    let cloud = Cloud::usual();
    cloud.world().inject(fault(Api::Tailscale, "DELETE", "/tailnet/-/keys/*", 1000, FaultKind::Refuse));
    let found = diagnose(&cloud, CancellationToken::new()).await.unwrap();
    let key = found.checks.iter().find(|check| check.name == "auth-key").unwrap();
    let id = cloud.truth().0["keys"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((key.verdict, key.what.contains(&id)), (Verdict::Warning, true), "{key:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(cloud.truth().usable_keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_doctor_reads_images_and_keys_by_id_and_by_name() {
    for (key, is_there) in [("4711", true), ("1", false), ("nobody", false)] {
        let settings = Settings { ssh_keys: vec![IdOrName::parse(key)], ..settings() };
        let cloud = Cloud::new(Config::default());
        let patient =
            Patient { region: None, complaints: Vec::new(), knows: Readable { tailscale: false, ..Readable::ALL } };
        let found =
            cloud.told(3).diagnose(&patient, &settings, CancellationToken::new(), Arc::new(Silent)).await.unwrap();
        let verdict = |name| found.checks.iter().find(|check| check.name == name).unwrap().verdict;
        assert_eq!(verdict("ssh-keys") == Verdict::Ok, is_there, "{key}");
        assert_eq!((verdict("image"), verdict("tailscale")), (Verdict::Ok, Verdict::Skipped));
    }
}
