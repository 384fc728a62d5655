//! The faults that only one kind of request can meet: orders, keys, tokens, removals.

use provision_vm::provision::Code;
use serde_json::{Value, json};
use simulator::Api;

use crate::form::{Form, Nature, answer, refusal};
use crate::role::End;
use crate::wire::Mishap;

/// A fault of one operation, with how the call must end.
#[derive(Clone, Copy, Debug)]
pub struct Special {
    pub form: Form,
    pub operation: &'static str,
    pub once: End,
    /// Nothing where the API cannot go on answering so.
    pub lasts: Option<End>,
}

const ORDER: &str = "hetzner POST /servers";
const KEY: &str = "tailscale POST /tailnet/-/keys";
const TOKEN: &str = "tailscale POST /oauth/token";
const EXCHANGE: &str = "tailscale POST /oauth/token-exchange";
const ISSUER: &str = "oidc GET /token";
const ACTIONS: &str = "hetzner GET /actions";
const SERVER: &str = "hetzner GET /servers/*";
const LIST: &str = "hetzner GET /servers";
const DELETE: &str = "hetzner DELETE /servers/*";
const REVOKE: &str = "tailscale DELETE /tailnet/-/keys/*";
const REMOVE: &str = "tailscale DELETE /device/*";

const NATURAL: End = End::Natural;

type Make = fn(Api) -> Option<Mishap>;

pub const SPECIALS: &[Special] = &[
    // Reads with a meaning of their own.
    special("G14", "404 on the actions", ACTIONS, NATURAL, NATURAL, |api| refusal(api, 404, "not_found")),
    special("G14", "the actions are not shown", ACTIONS, NATURAL, NATURAL, |_| {
        Some(Mishap::Twist(|body| body["actions"] = json!([])))
    }),
    special("M04", "unknown status, progress going back", ACTIONS, NATURAL, END_ACTION_TIMEOUT, |_| {
        Some(Mishap::Twist(|body| {
            for action in body["actions"].as_array_mut().into_iter().flatten() {
                action["status"] = json!("pondering");
                action["progress"] = json!(-5);
            }
        }))
    }),
    Special {
        lasts: None,
        ..survived("G15", "404 on a server that is there", SERVER, |api| refusal(api, 404, "not_found"))
    },
    special("G31", "the list goes on on page 2", LIST, NATURAL, End::Code(Code::Protocol), |_| {
        twist(|body| body["meta"]["pagination"]["next_page"] = json!(2))
    }),
    fails("G31", "pages that lead back", LIST, Code::Protocol, |_| {
        twist(|body| body["meta"]["pagination"]["next_page"] = json!(1))
    }),
    // The order of a server.
    fails("P07", "400 json_error", ORDER, Code::Protocol, |api| refusal(api, 400, "json_error")),
    fails("P07", "422 invalid_input", ORDER, Code::InvalidInput, |_| with_fields("invalid_input", 422, "user_data")),
    fails("P08", "401 unauthorized", ORDER, Code::AuthHetzner, |api| refusal(api, 401, "unauthorized")),
    fails("P08", "401 token_readonly", ORDER, Code::AuthHetzner, |api| refusal(api, 401, "token_readonly")),
    fails("P09", "403 forbidden", ORDER, Code::Forbidden, |api| refusal(api, 403, "forbidden")),
    fails("P10", "403 resource_limit_exceeded", ORDER, Code::Quota, |api| refusal(api, 403, "resource_limit_exceeded")),
    special("P11", "403 maintenance", ORDER, NATURAL, End::Code(Code::Upstream), |api| {
        refusal(api, 403, "maintenance")
    }),
    fails("P12", "404 image", ORDER, Code::Config, |api| refusal(api, 404, "not_found")),
    fails("P12", "422 ssh_keys", ORDER, Code::Config, |_| with_fields("invalid_input", 422, "ssh_keys")),
    fails("P13", "405", ORDER, Code::ApiRemoved, |api| refusal(api, 405, "method_not_allowed")),
    fails("P13", "410", ORDER, Code::ApiRemoved, |api| refusal(api, 410, "deprecated_api_endpoint")),
    special("P20", "409 conflict", ORDER, NATURAL, End::Code(Code::Upstream), |api| refusal(api, 409, "conflict")),
    special("P19", "409, and no read shows whose it is", ORDER, NATURAL, End::Code(Code::NameConflict), |_| {
        with_fields("uniqueness_error", 409, "name")
    }),
    special("P21", "412 resource_unavailable", ORDER, NATURAL, End::Code(Code::Capacity), |api| {
        refusal(api, 412, "resource_unavailable")
    }),
    special("P21", "422 placement_error", ORDER, NATURAL, End::Code(Code::Capacity), |api| {
        refusal(api, 422, "placement_error")
    }),
    special("P22", "422 service_error", ORDER, NATURAL, End::Code(Code::Upstream), |api| {
        refusal(api, 422, "service_error")
    }),
    special("P23", "422 the type is not offered there", ORDER, NATURAL, End::Code(Code::Config), |_| {
        let message = "unsupported location for server type";
        answer(422, Some(json!({ "error": { "code": "invalid_input", "message": message } })), None, false)
    }),
    special("P24", "423 locked", ORDER, NATURAL, End::Code(Code::Upstream), |api| refusal(api, 423, "locked")),
    survived("P28", "201 without an action", ORDER, |_| twist(|body| drop_field(body, "action"))),
    survived("P28", "201 with id 0", ORDER, |_| twist(|body| body["server"]["id"] = json!(0))),
    survived("P28", "201 with an id over 2^53", ORDER, |_| {
        twist(|body| body["server"]["id"] = json!(9_007_199_254_740_993_u64))
    }),
    survived("P28", "201 with a negative id", ORDER, |_| twist(|body| body["server"]["id"] = json!(-4))),
    fails("P29", "201 without an IPv4 address", ORDER, Code::Protocol, |_| {
        twist(|body| body["server"]["public_net"]["ipv4"] = Value::Null)
    }),
    survived("P30", "201 that names another server", ORDER, |_| {
        twist(|body| body["server"]["name"] = json!("another"))
    }),
    survived("P30", "201 with other labels", ORDER, |_| twist(|body| body["server"]["labels"] = json!({}))),
    survived("P31", "201 with a root password", ORDER, |_| twist(|body| body["root_password"] = json!("SECRETSECRET"))),
    // Tokens.
    fails("T02", "400 invalid_client", TOKEN, Code::AuthTailscale, |api| refusal(api, 400, "")),
    fails("T02", "401", TOKEN, Code::AuthTailscale, |api| refusal(api, 401, "")),
    fails("T02", "403", TOKEN, Code::AuthTailscale, |api| refusal(api, 403, "")),
    special("T04", "without a token", TOKEN, NATURAL, End::Code(Code::Protocol), |_| {
        twist(|body| drop_field(body, "access_token"))
    }),
    special("T04", "an empty token", TOKEN, NATURAL, End::Code(Code::Protocol), |_| {
        twist(|body| body["access_token"] = json!(""))
    }),
    special("T04", "another kind of token", TOKEN, NATURAL, End::Code(Code::Protocol), |_| {
        twist(|body| body["token_type"] = json!("mac"))
    }),
    survived("T04", "a life of 0 seconds", TOKEN, |_| twist(|body| body["expires_in"] = json!(0))),
    survived("T04", "no life told", TOKEN, |_| twist(|body| drop_field(body, "expires_in"))),
    fails("T06", "403 of the issuer", ISSUER, Code::AuthTailscale, |api| refusal(api, 403, "")),
    special("T06", "the issuer is down", ISSUER, NATURAL, End::Code(Code::Upstream), |api| refusal(api, 503, "")),
    special("T06", "the issuer's answer holds no token", ISSUER, NATURAL, End::Code(Code::Protocol), |_| {
        twist(|body| drop_field(body, "value"))
    }),
    fails("T06", "wrong audience", EXCHANGE, Code::AuthTailscale, |api| refusal(api, 401, "")),
    // The order of an auth key.
    fails("K04", "403, the scope is missing", KEY, Code::Forbidden, |api| refusal(api, 403, "")),
    fails("K04", "400, the tag is not the client's", KEY, Code::Forbidden, |_| {
        let message = "requested tags [tag:agent] are invalid or not permitted";
        answer(400, Some(json!({ "message": message })), None, false)
    }),
    fails("K06", "without the key", KEY, Code::Protocol, |_| twist(|body| drop_field(body, "key"))),
    special("K06", "without the id", KEY, NATURAL, End::Code(Code::Protocol), |_| twist(|body| drop_field(body, "id"))),
    fails("K06", "another prefix", KEY, Code::Protocol, |_| twist(|body| body["key"] = json!("sk-live-1"))),
    fails("K06", "white space in the key", KEY, Code::Protocol, |_| {
        twist(|body| body["key"] = json!("tskey-auth-k1 && reboot"))
    }),
    fails("K06", "10 KiB of key", KEY, Code::Protocol, |_| {
        twist(|body| body["key"] = json!(format!("tskey-auth-{}", "k".repeat(10_240))))
    }),
    fails("K07", "reusable", KEY, Code::Protocol, |_| twist(|body| create(body)["reusable"] = json!(true))),
    fails("K07", "other tags", KEY, Code::Protocol, |_| twist(|body| create(body)["tags"] = json!(["tag:admin"]))),
    fails("K07", "not pre-authorised", KEY, Code::Protocol, |_| {
        twist(|body| create(body)["preauthorized"] = json!(false))
    }),
    // Removals.
    survived("X02", "404 on the delete of a server", DELETE, |_| lost_delete(404, "not_found")),
    survived("X04", "423 locked", DELETE, |api| refusal(api, 423, "locked")),
    survived("X05", "423 protected", DELETE, |api| refusal(api, 423, "protected")),
    survived("X06", "401", DELETE, |api| refusal(api, 401, "unauthorized")),
    survived("X06", "403", DELETE, |api| refusal(api, 403, "forbidden")),
    survived("X08", "the delete's action fails", DELETE, |_| {
        let error = json!({ "code": "action_failed", "message": "no" });
        let action = json!({ "id": 7, "command": "delete_server", "status": "error", "progress": 100, "error": error });
        answer(200, Some(json!({ "action": action })), None, false)
    }),
    survived("X10", "403 on the removal of a device", REMOVE, |api| refusal(api, 403, "")),
    survived("X11", "403 on the revocation of a key", REVOKE, |api| refusal(api, 403, "")),
    survived("X11", "404 on the revocation of a key", REVOKE, |api| refusal(api, 404, "")),
];

const END_ACTION_TIMEOUT: End = End::Code(Code::ActionTimeout);

const fn special(
    row: &'static str,
    name: &'static str,
    operation: &'static str,
    once: End,
    lasts: End,
    mishap: Make,
) -> Special {
    let nature = match once {
        End::Natural => Nature::Unapplied,
        End::Code(_) | End::Either(_) | End::OneOf(..) => Nature::Final,
    };
    Special { form: Form { row, name, nature, code: Code::Internal, mishap }, operation, once, lasts: Some(lasts) }
}

const fn fails(row: &'static str, name: &'static str, operation: &'static str, code: Code, mishap: Make) -> Special {
    special(row, name, operation, End::Code(code), End::Code(code), mishap)
}

/// The call goes on as if nothing had happened, however often it happens.
const fn survived(row: &'static str, name: &'static str, operation: &'static str, mishap: Make) -> Special {
    special(row, name, operation, NATURAL, NATURAL, mishap)
}

#[expect(clippy::unnecessary_wraps, reason = "one shape for all forms")]
fn twist(change: fn(&mut Value)) -> Option<Mishap> {
    Some(Mishap::Twist(change))
}

fn with_fields(code: &str, status: u16, field: &str) -> Option<Mishap> {
    let details = json!({ "fields": [{ "name": field, "messages": ["no"] }] });
    answer(status, Some(json!({ "error": { "code": code, "message": "no", "details": details } })), None, false)
}

/// It is gone by the time that the answer is written: applied, and answered as if by another call's delete.
fn lost_delete(status: u16, code: &str) -> Option<Mishap> {
    answer(status, Some(json!({ "error": { "code": code, "message": "no" } })), None, true)
}

fn drop_field(body: &mut Value, field: &str) {
    if let Some(fields) = body.as_object_mut() {
        fields.remove(field);
    }
}

fn create(body: &mut Value) -> &mut Value {
    &mut body["capabilities"]["devices"]["create"]
}
