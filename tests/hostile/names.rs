//! Job and agent ids, label values, server names (D03, D12, Y11).

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use provision_vm::hetzner::is_label_value;
use provision_vm::provision::{CancellationToken, Code, Params, ProvisionError, Provisioner};
use provision_vm::transport::{Dial, DialError, Transport, TransportError};

use super::support::{Cloud, Notebook, settings};
use super::{cases, complaint_about, hostile_text, paused};

/// A network on which nothing is trusted, so that a call ends with its first request.
#[derive(Default)]
struct Nowhere(Mutex<Vec<http::Uri>>);

impl Transport for Nowhere {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        self.0.lock().unwrap().push(request.uri().clone());
        let host = request.uri().host().unwrap_or_default().to_owned();
        Box::pin(async { Err(TransportError::Certificate { host, why: "it is nobody's".to_owned() }) })
    }
}

impl Dial for Nowhere {
    fn dial(&self, _: Ipv4Addr, _: u16) -> BoxFuture<'_, Result<(), DialError>> {
        Box::pin(async { Err(DialError::NoRoute) })
    }
}

/// Calls for a job, and returns its server's name as the events tell it, with the requests that were made.
fn call(job: &str, agent: &str, region: &str) -> (Option<String>, Vec<http::Uri>, Box<ProvisionError>) {
    let (nowhere, notes) = (Arc::new(Nowhere::default()), Arc::new(Notebook::default()));
    let params = Params { job_id: job.to_owned(), agent_id: agent.to_owned(), region: region.to_owned() };
    let settings = settings();
    let process = Provisioner::over(nowhere.clone(), nowhere.clone(), 1);
    let call = process.provision(&params, &settings, CancellationToken::new(), notes.clone());
    let error = paused().block_on(call).unwrap_err();
    let name = notes.events.lock().unwrap().first().and_then(|event| event.known.server_name.clone());
    let asked = nowhere.0.lock().unwrap().clone();
    (name, asked, error)
}

/// The grammar once more, in other words.
fn fits(id: &str) -> bool {
    let inner = id.trim_matches(['-', '_', '.']);
    !id.is_empty()
        && inner.len() == id.len()
        && id.chars().count() <= 63
        && id.chars().all(|letter| matches!(letter, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.'))
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        1 => "[A-Za-z0-9._-]{0,70}",
        1 => hostile_text(),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn d12_an_id_is_a_label_value_or_refused_by_its_name(job in id(), agent in id()) {
        prop_assert_eq!((is_label_value(&job), is_label_value(&agent)), (fits(&job), fits(&agent)));
        let (name, asked, error) = call(&job, &agent, "us-east");
        if !fits(&job) || !fits(&agent) {
            let field = if fits(&job) { "params.agentId" } else { "params.jobId" };
            prop_assert_eq!((error.cause.code(), error.cause.field()), (Code::InvalidInput, Some(field)));
            prop_assert!(asked.is_empty() && name.is_none(), "{asked:?}");
            prop_assert_eq!(complaint_about(&error.to_string()), None);
            return Ok(());
        }
        prop_assert_eq!(error.cause.code(), Code::Tls);
        // What was asked for is the label's value, letter for letter.
        let mut pairs = asked.iter().filter_map(|uri| uri.query()).flat_map(|query| query.split('&'));
        let selector = pairs.find_map(|pair| pair.strip_prefix("label_selector="));
        let plain = format!("provisioning_job_id%3D%3D{job}");
        prop_assert_eq!(selector.unwrap_or(&plain), &plain, "{:?}", &asked);
    }

    #[test]
    fn d03_a_name_is_a_dns_label_that_the_two_ids_alone_decide(
        job in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        other in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        agent in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    ) {
        let name = call(&job, &agent, "us-east").0.unwrap();
        let plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        prop_assert!((1..=63).contains(&name.len()) && name.chars().all(plain), "{name}");
        prop_assert!(name.starts_with("agent-") && !name.ends_with('-'), "{name}");
        prop_assert_eq!(call(&job, &agent, "mars").0.unwrap(), name.clone());
        prop_assert_eq!(call(&other, &agent, "us-east").0.unwrap() == name, other == job);
        let refused = provision_vm::cloud_init::render(&provision_vm::cloud_init::FirstBoot {
            auth_key: &provision_vm::secret::Secret::new("tskey-auth-k1-x"),
            hostname: &name,
            mode: provision_vm::cloud_init::Mode::EnrollOnly,
            report: None,
            additions: &provision_vm::cloud_init::Additions::default(),
        });
        prop_assert!(refused.is_ok(), "{name} is no host name: {refused:?}");
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn d12_the_clouds_take_every_accepted_id(
        job in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        agent in "[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    ) {
        paused().block_on(async {
            let cloud = Cloud::usual();
            let params = Params { job_id: job.clone(), agent_id: agent.clone(), region: "us-east".to_owned() };
            let (settings, process) = (settings(), cloud.process(7));
            let notes = Arc::new(Notebook::default());
            let outcome = process.provision(&params, &settings, CancellationToken::new(), notes).await;
            let truth = cloud.truth();
            truth.assert_one_ready(&outcome);
            let labels = &truth.servers()[0]["labels"];
            prop_assert_eq!(&labels["provisioning_job_id"], &job);
            prop_assert_eq!(&labels["agent_id"], &agent);
            Ok(())
        })?;
    }
}
