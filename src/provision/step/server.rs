//! The order of a server: the one request that costs money, and the one that must not be made twice.
//!
//! Hetzner knows no idempotency key, but it keeps names unique, and ours comes from the job alone. So, after any reply
//! that does not prove "not applied": look the name up; found with our attempt's label, the order was carried out; not
//! found, order again under the same name. A name that is taken is looked up the same way.

mod undo;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::adopt::{self, Standing};
use super::super::candidate::{Candidate, CandidateAttempt, choose};
use super::super::error::Cause;
use super::super::event::{Detail, Scope, Step};
use super::super::job::Attempt;
use super::super::run::{Doing, Heard, Run};
use super::super::saga::Saga;
use super::first_boot;
use crate::hetzner::{
    Action, ActionId, Addresses, CreateServer, Created, HetznerError, Labels, Order, Price, Server, ServerId,
};
use crate::transport::{Judge, Opinion};
pub(in super::super) use undo::UndoServer;

/// When to look for a server whose order got no answer: a read may lag by up to 5 s.
const LOOKS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(3)];
/// How often one candidate is ordered when answers get lost.
const ORDERS: u32 = 4;
/// How long a name may be taken by a server that no read shows: one that is being deleted, or not shown yet.
const NAME_HELD: Duration = Duration::from_secs(20);
/// The cap on what many calls cost together, by the name that callers have for it.
const MOST_HOURLY: &str = "maxHourlyCost";
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A server of this attempt, as far as the wait for its machine needs it.
pub(in super::super) struct Made {
    pub id: ServerId,
    pub addresses: Addresses,
    pub actions: Vec<ActionId>,
    pub price: Option<Price>,
    /// What will remove it, should a later step fail.
    pub undo: Arc<UndoServer>,
}

/// Orders the first candidate that is to be had.
pub(in super::super) async fn create(
    run: &Run<'_>,
    saga: &Saga,
    attempt: &Attempt,
    document: &first_boot::Document,
    auth_key: Option<&str>,
) -> Result<(Made, Server), Cause> {
    run.enter(Step::Server);
    let types =
        run.guard(async { run.hetzner.server_types(run.within()).await.doing("the server types could not be read") });
    let (types, now, locations) = (types.await?, run.clock.cloud_unix(), run.locations());
    let considered: Vec<_> =
        locations.iter().flat_map(|location| choose(&run.settings.server_types, &types, location, now)).collect();
    let offers: Vec<Candidate> = considered.iter().flatten().cloned().collect();
    let labels = run.job.labels(attempt, auth_key, &run.settings.extras.labels);
    let undo = saga.declare(UndoServer::new(run.job, attempt));
    let (mut out_of_stock, mut over_cap) = (false, false);
    for candidate in considered {
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(refused) => {
                let why = refused.refused.as_deref().unwrap_or_default();
                let message = format!("Server type {} is left out: {why}", refused.server_type);
                run.tell(Scope::Hetzner, message, Detail::Candidate { tried: refused.clone(), price: None });
                run.tried(refused);
                continue;
            }
        };
        let mut outcome = CandidateAttempt {
            server_type: candidate.server_type.clone(),
            location: candidate.location.clone(),
            refused: None,
        };
        if !run.can_afford(candidate.price.as_ref()) {
            over_cap = true;
            outcome.refused = Some(format!("costs more than is left of {MOST_HOURLY}"));
            let message = format!("Server type {} {}", candidate.server_type, outcome.refused.as_deref().unwrap_or(""));
            run.tell(Scope::Hetzner, message, Detail::Candidate { tried: outcome.clone(), price: candidate.price });
            run.tried(outcome);
            continue;
        }
        match order(run, &undo, &candidate, document, &labels, &offers).await? {
            Ok((made, server)) => {
                run.tried(outcome);
                return accept(run, made, server);
            }
            Err(refusal) => {
                out_of_stock |= refusal.is_out_of_capacity();
                let Candidate { server_type, location, .. } = &candidate;
                let message = format!("Server type {server_type} is not to be had in {location}: {refusal}");
                outcome.refused = Some(refusal.to_string());
                run.tell(Scope::Hetzner, message, Detail::Candidate { tried: outcome.clone(), price: candidate.price });
                run.tried(outcome);
            }
        }
    }
    if over_cap && !out_of_stock {
        return Err(Cause::OverCap(MOST_HOURLY.to_owned()));
    }
    let tried = run.notes().candidates.iter().map(describe).collect::<Vec<_>>().join("; ");
    Err(Cause::NoCandidate { location: locations.join(", "), tried, out_of_stock })
}

fn describe(attempt: &CandidateAttempt) -> String {
    format!("{} in {}: {}", attempt.server_type, attempt.location, attempt.refused.as_deref().unwrap_or("taken"))
}

/// The server must be what was ordered. If it is not, the undo that was declared removes it.
fn accept(run: &Run<'_>, made: Made, server: Server) -> Result<(Made, Server), Cause> {
    run.know_server(&server);
    // A late order of an earlier candidate may be the one that was carried out.
    let locations = run.locations();
    if !locations.contains(&server.location.as_str()) {
        let why = format!("it stands in {} instead of {}", server.location, locations.join(", "));
        return Err(Cause::UnusableServer(why));
    }
    let (ordered, addresses) = (run.settings.extras.attachments.public_net, server.addresses);
    for (family, is_missing) in [
        ("IPv4", ordered.enable_ipv4 && addresses.ipv4.is_none()),
        ("IPv6", ordered.enable_ipv6 && !ordered.enable_ipv4 && addresses.ipv6.is_none()),
    ] {
        if is_missing {
            return Err(Cause::UnusableServer(format!("it has no public {family} address")));
        }
    }
    // Its private networks are attached later.
    let ip = addresses.main().map(|ip| format!(", ip={ip}")).unwrap_or_default();
    run.tell(Scope::ProvisionVm, format!("Hetzner server created: id={}{ip}", server.id), Detail::Server);
    let price = made.price.as_ref().map(|price| format!(", {} an hour", price.hourly)).unwrap_or_default();
    let (server_type, location) = (server.server_type.clone(), server.location.clone());
    let message = format!("Server type {server_type} in {location}{price}");
    let tried = CandidateAttempt { server_type, location, refused: None };
    run.tell(Scope::Hetzner, message, Detail::Candidate { tried, price: made.price.clone() });
    Ok((made, server))
}

/// Where a server is reached.
pub(in super::super) fn address(server: &Server) -> Result<IpAddr, Cause> {
    let no_address = || Cause::UnusableServer("it has no address".to_owned());
    server.addresses.main().ok_or_else(no_address)
}

/// Orders one candidate. The inner error is a refusal of this candidate alone.
async fn order(
    run: &Run<'_>,
    undo: &Arc<UndoServer>,
    candidate: &Candidate,
    document: &first_boot::Document,
    labels: &Labels,
    offers: &[Candidate],
) -> Result<Result<(Made, Server), HetznerError>, Cause> {
    let location = candidate.location.as_str();
    let refused =
        |source| Cause::Order { server_type: candidate.server_type.clone(), location: location.to_owned(), source };
    let write = || {
        let order = CreateServer {
            name: &run.job.name,
            server_type: &candidate.server_type,
            location,
            image: run.settings.source.image(),
            ssh_keys: &run.settings.ssh_keys,
            user_data: &document.text(run)?,
            labels,
            attachments: &run.settings.extras.attachments,
        };
        Order::new(&order).map_err(refused)
    };
    let placed = match place(run, undo, &write, &refused).await? {
        Ok(placed) => placed,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let (server, actions) = match placed {
        Placed::Answered(Created { server, actions, .. }) => (server, actions),
        Placed::Found(server) => {
            let actions = read_actions(run, server.id).await?;
            (server, actions)
        }
    };
    // A late order of an earlier candidate may be the one that was carried out.
    let is_it = |offer: &&Candidate| (&offer.server_type, &offer.location) == (&server.server_type, &server.location);
    let price = offers.iter().find(is_it).and_then(|offer| offer.price.clone());
    let actions = actions.into_iter().map(|action| action.id).collect();
    let made = Made { id: server.id, addresses: server.addresses, actions, price, undo: undo.clone() };
    Ok(Ok((made, server)))
}

/// Makes the text of an order.
type Writing<'a> = &'a (dyn Fn() -> Result<Order, Cause> + Sync);

/// A server that stands for an order.
pub(in super::super) enum Placed {
    /// The order's own answer tells of it.
    Answered(Created),
    /// That answer was lost; a look-up shows it.
    Found(Server),
}

/// Places one order until it is clear what became of it. The inner error says that its type is not to be had. `write` makes the
/// order's text, each time when it is about to be sent.
pub(in super::super) async fn place(
    run: &Run<'_>,
    undo: &UndoServer,
    write: Writing<'_>,
    refused: &(dyn Fn(HetznerError) -> Cause + Sync),
) -> Result<Result<Placed, HetznerError>, Cause> {
    let (mut orders, mut refusals, mut first_clash) = (0, 0, None);
    loop {
        orders += 1;
        let error = match hear(run, undo, write).await? {
            Ok(created) if undo.is_of_order(run.job, &created.server) => {
                undo.made(&created.server);
                return Ok(Ok(Placed::Answered(created)));
            }
            // An answer that speaks of something else proves nothing (fault P30).
            Ok(_) => None,
            Err(error) => Some(error),
        };
        match error {
            Some(error) if error.is_name_taken() => {
                undo.not_applied();
                let since = *first_clash.get_or_insert_with(|| run.clock.now());
                match run.guard(find_by_name(run, undo)).await? {
                    Some(server) => return Ok(Ok(found(run, undo, server))),
                    None if run.clock.now() < since + NAME_HELD => run.pause(LOOK_AGAIN).await?,
                    None => return Err(Cause::NameConflict { name: run.job.name.clone(), id: None }),
                }
                // A name that frees itself is waited for, not counted.
                orders -= 1;
            }
            Some(error) if error.is_out_of_capacity() || error.is_not_offered() => {
                undo.not_applied();
                return Ok(Err(error));
            }
            Some(error) if !is_unclear(&error) => {
                undo.not_applied();
                refusals += 1;
                match run.pause_before_order(error.opinion(), refusals) {
                    Some(pause) => run.pause(pause).await?,
                    None => return Err(refused(error)),
                }
                orders -= 1;
            }
            unclear => {
                let why =
                    unclear.as_ref().map_or_else(|| "the answer names another server".to_owned(), ToString::to_string);
                run.say(Scope::Hetzner, format!("No clear answer to the order ({why}), looking for the server"));
                for wait in LOOKS {
                    run.pause(wait).await?;
                    if let Some(server) = run.guard(find_by_name(run, undo)).await? {
                        return Ok(Ok(found(run, undo, server)));
                    }
                }
                // What is refused for good, such as a redirect, is not ordered again (fault P32).
                let is_final = unclear.as_ref().is_some_and(|error| error.opinion() == Opinion::Stop);
                if is_final || orders >= ORDERS {
                    return Err(unclear.map_or_else(
                        || Cause::UnusableServer("Hetzner's answers name another server".to_owned()),
                        refused,
                    ));
                }
            }
        }
    }
}

/// Sends the order once and hears the reply out.
async fn hear(run: &Run<'_>, undo: &UndoServer, write: Writing<'_>) -> Result<Result<Created, HetznerError>, Cause> {
    if let Some(cause) = run.ended() {
        return Err(cause);
    }
    let _place = run.guard(async { run.hetzner.may_order(run.deadline()).await.ok_or(Cause::Deadline) }).await?;
    let order = write()?;
    undo.ordered();
    match run.hear(run.hetzner.create_server(&order, run.within_grace())).await {
        Heard::Reply(reply) => Ok(reply),
        Heard::Interrupted(cause, reply) => {
            match reply {
                Some(Ok(created)) if undo.is_of_order(run.job, &created.server) => undo.made(&created.server),
                Some(Err(error)) if !is_unclear(&error) => undo.not_applied(),
                _ => {}
            }
            Err(cause)
        }
    }
}

/// The server of our name, if it stands for this order. Anything else of that name is an answer of its own.
async fn find_by_name(run: &Run<'_>, undo: &UndoServer) -> Result<Option<Server>, Cause> {
    let found = run.hetzner.find_server_by_name(&run.job.name, run.within()).await;
    let Some(server) = found.doing("the server could not be looked for")? else { return Ok(None) };
    if undo.is_of_order(run.job, &server) {
        return Ok(Some(server));
    }
    if !undo.is_of_job() {
        return Err(Cause::NameConflict { name: server.name, id: Some(server.id.0) });
    }
    match adopt::classify(run, server)? {
        Standing::Absent => Ok(None),
        Standing::Ready(server)
        | Standing::Underway(server)
        | Standing::Begun(server, _)
        | Standing::Dead(server, _) => Err(Cause::Taken(Box::new(server))),
    }
}

/// Whether an order may have been carried out in spite of this answer. A lock on a server says that there is one (P24).
fn is_unclear(error: &HetznerError) -> bool {
    error.may_have_applied() || error.is_locked()
}

fn found(run: &Run<'_>, undo: &UndoServer, server: Server) -> Placed {
    undo.found(&server);
    run.say(Scope::Hetzner, format!("The order was carried out: id={}", server.id));
    Placed::Found(server)
}

/// The actions of a server whose order got no answer, from its own list.
pub(in super::super) async fn read_actions(run: &Run<'_>, id: ServerId) -> Result<Vec<Action>, Cause> {
    run.guard(async {
        match run.hetzner.list_server_actions(id, run.within()).await {
            Ok(actions) => Ok(actions),
            // The device will tell whether the machine boots; only a refusal for good ends the job here.
            Err(error) if error.opinion() != Opinion::Stop || error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error).doing("the server's actions could not be read"),
        }
    })
    .await
}
