//! What a request is for, and so what a fault at it must lead to.

use provision_vm::provision::Code;

use crate::form::{Form, Nature};
use crate::scenario::{Call, Scenario};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An access token or an identity token.
    Token,
    /// A read, or a write of a whole value, that the call cannot do without.
    Needed,
    /// One of many looks; the next one may tell as much.
    Poll,
    /// A look that the call can do without.
    Glance,
    /// The look when the deadline has come: it may still find the device, or else see for a person how far its machine came, and
    /// changes nothing else.
    LastLook,
    /// A look at the customer's auth key.
    CheckKey,
    /// One of many looks at whether this attempt's key was used.
    Proof,
    /// The order of an auth key.
    OrderKey,
    /// The order of a server.
    OrderServer,
    /// The mark `ready`.
    Mark,
    /// A read beside the mark. These have a limit of their own instead of a number of tries.
    Ready,
    /// Revoking the key that has served.
    Retire,
    /// Removing what a dead attempt left.
    Removal,
    /// Undoing what this call made.
    Undo,
}

/// How a call must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As if nothing had happened.
    Natural,
    /// With this code.
    Code(Code),
    /// Either.
    Either(Code),
    /// As if nothing had happened, or with one of these.
    OneOf(Code, Code),
}

/// The role of each request of a call that nothing interfered with.
pub fn roles(scenario: Scenario, call: &Call) -> Vec<Role> {
    let undo = call.undo_began().unwrap_or(u64::MAX);
    let deadline = u64::try_from(scenario.deadline().as_millis()).unwrap();
    let first = |operation: &str| call.log.iter().position(|sent| sent.operation == operation);
    let ordered = first("hetzner POST /servers").unwrap_or(usize::MAX);
    let marked = first("hetzner PUT /servers/*").unwrap_or(usize::MAX);
    // A dead attempt's server is read first, and its name is free when the job is looked up again.
    let removal = if scenario == Scenario::TakesOver {
        let begin = first("hetzner GET /servers/*").unwrap();
        let end = (begin..call.log.len()).find(|index| call.log[*index].operation == "hetzner GET /servers").unwrap();
        begin..end
    } else {
        0..0
    };
    let role = |(index, sent): (usize, &crate::wire::Sent)| match sent.operation.as_str() {
        _ if sent.at >= undo => Role::Undo,
        _ if removal.contains(&index) => Role::Removal,
        "tailscale POST /oauth/token" | "tailscale POST /oauth/token-exchange" | "oidc GET /token" => Role::Token,
        "tailscale POST /tailnet/-/keys" => Role::OrderKey,
        "hetzner POST /servers" => Role::OrderServer,
        "hetzner GET /actions" => Role::Poll,
        "tailscale GET /tailnet/-/devices" | "tailscale GET /tailnet/-/keys/*" | "hetzner GET /servers/*"
            if sent.at >= deadline =>
        {
            Role::LastLook
        }
        "tailscale GET /tailnet/-/devices" | "tailscale GET /device/*" if index > ordered => Role::Poll,
        "tailscale GET /tailnet/-/keys/*" if index > ordered => Role::Proof,
        "hetzner GET /servers/*" if scenario == Scenario::Follows => Role::Poll,
        "hetzner GET /servers/*" if index + 1 < marked => Role::Glance,
        "hetzner PUT /servers/*" => Role::Mark,
        "hetzner GET /servers" | "hetzner GET /servers/*" if index + 1 >= marked => Role::Ready,
        "tailscale GET /tailnet/-/keys/*" => Role::CheckKey,
        "tailscale DELETE /tailnet/-/keys/*" => Role::Retire,
        _ => Role::Needed,
    };
    call.log.iter().enumerate().map(role).collect()
}

/// How a call must end that meets this fault at a request of this role: once, or from there on for good.
pub fn expected(role: Role, form: &Form, lasts: bool, operation: &str) -> End {
    let at_tailscale = !operation.starts_with("hetzner");
    match (role, form.nature) {
        (_, Nature::Harmless) | (Role::Undo | Role::Retire | Role::LastLook, _) => End::Natural,
        // The first cause of such a call is that the dead attempt's remains could not be removed. What needs no answer to
        // be removed may meet the fault again later.
        (Role::Removal, _) => End::OneOf(Code::Upstream, final_code(role, form, at_tailscale)),
        (Role::Glance, nature) if nature != Nature::Final => End::Natural,
        // One refresh of the token, and a second chance with it.
        (_, Nature::Final) if form.row == "G11" && role != Role::Token && !lasts => End::Natural,
        // A look-up tells what a broken order has made; P27.
        (Role::OrderServer, _) if form.name == "64 MiB" => End::Natural,
        (Role::OrderKey, _) if ["64 MiB", "302 to elsewhere"].contains(&form.name) && !lasts => End::Natural,
        (Role::CheckKey | Role::Proof, Nature::Final) if form.row == "G12" => End::Natural,
        (_, Nature::Final) => End::Code(final_code(role, form, at_tailscale)),
        _ if !lasts => End::Natural,
        // What was applied is found (P04, P27).
        (Role::OrderServer, Nature::Applied) => End::Natural,
        // The mark is there, and a read shows it.
        (Role::Mark, Nature::Applied) => End::Either(form.code),
        _ => End::Code(form.code),
    }
}

fn final_code(role: Role, form: &Form, at_tailscale: bool) -> Code {
    match form.row {
        // Whatever a refusal of the credential says, it is one (T02).
        "G09" | "G12" | "G18" if role == Role::Token => Code::AuthTailscale,
        "G18" if role == Role::OrderServer => Code::InvalidInput,
        "G10" if at_tailscale => Code::AuthTailscale,
        _ => form.code,
    }
}
