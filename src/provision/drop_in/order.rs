//! A server in the caller's own words. It is no job's, so nobody follows it, finishes it or reaps it; but its order is as
//! careful as a job's, and is undone if the call fails.

use super::super::error::Cause;
use super::super::event::{Scope, Step};
use super::super::job::order_labels;
use super::super::run::{Doing, Run};
use super::super::saga::Saga;
use super::super::step::server::{Placed, UndoServer, place};
use crate::hetzner::{HetznerError, Order};
use crate::transport::Document;

/// Orders the server and returns Hetzner's answer.
///
/// The label `attempt` is added to the caller's own: by it an order whose answer was lost is known again, and nothing that
/// somebody else made under the same name is ever taken for it.
pub(super) async fn create(run: &Run<'_>, saga: &Saga, order: &Document) -> Result<Document, Cause> {
    run.enter(Step::Server);
    let attempt = run.chance.id();
    let refused = |source: HetznerError| Cause::OwnOrder { source };
    let order = Order::in_own_words(order, &order_labels(&attempt)).map_err(refused)?;
    let undo = saga.declare(UndoServer::of_order(&run.job.name, &attempt));
    let document = match place(run, &undo, &|| Ok(order.clone()), &refused).await?.map_err(refused)? {
        Placed::Answered(created) => {
            run.know_server(&created.server);
            if let Some(password) = &created.root_password {
                run.tell_secret(password);
            }
            created.document
        }
        Placed::Found(server) => {
            run.know_server(&server);
            let described = run.hetzner.describe_created(server.id, run.within());
            run.guard(async { described.await.doing("the new server could not be read") }).await?
        }
    };
    run.say(Scope::Hetzner, format!("Server created: {}", run.job.name));
    Ok(document)
}
