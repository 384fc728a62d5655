//! Access tokens and identity tokens (A1).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};

use super::{LETTERS, Tailscale, config::length};
use crate::context::Context;
use crate::history::{SecretKind, What};
use crate::reply::{bearer_of, json_reply, query_of, tailscale_error, text_reply};

const LIFE: Duration = Duration::from_secs(3600);
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// An access token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub scopes: Vec<String>,
    pub tags: Vec<String>,
    pub expires: Duration,
}

impl Token {
    /// Whether it reaches this far. To write is to be allowed to read.
    pub(super) fn may(&self, scope: &str, write: bool) -> bool {
        holds(&self.scopes, scope) || (!write && holds(&self.scopes, &format!("{scope}:read")))
    }
}

fn holds(held: &[String], wanted: &str) -> bool {
    let read = wanted.strip_suffix(":read");
    held.iter()
        .any(|held| held == wanted || held == "all" || read.is_some_and(|write| held == write || held == "all:read"))
}

impl Tailscale {
    /// `POST /oauth/token`: form or HTTP Basic. The client is found by its secret; the id is ignored, and so is `tags`,
    /// which does not narrow what the token carries.
    pub(super) fn grant_token(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() != Method::POST {
            return text_reply(405, "text/plain", "");
        }
        if cx.now < length(self.config.young_client_seconds) {
            return tailscale_error(404, "not found");
        }
        let form = form_of(request);
        let basic = basic_of(request).map(|(_, password)| password).filter(|password| !password.is_empty());
        let secret = basic.or_else(|| field(&form, "client_secret"));
        let client = self.config.clients.iter().find(|client| Some(&client.secret) == secret.as_ref()).cloned();
        let Some(client) = client else { return tailscale_error(401, "API token invalid") };
        let asked = field(&form, "scope").unwrap_or_default();
        let asked: Vec<String> = asked.split_whitespace().map(str::to_owned).collect();
        let missing: Vec<&str> =
            asked.iter().filter(|scope| !holds(&client.scopes, scope)).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!("OAuth client cannot grant scopes \"{}\"", missing.join(" "));
            return tailscale_error(403, &message);
        }
        let scopes = if asked.is_empty() { client.scopes } else { asked };
        self.mint(cx, &client.id, scopes, client.tags)
    }

    fn mint(&mut self, cx: &mut Context, client: &str, scopes: Vec<String>, tags: Vec<String>) -> Response<Bytes> {
        let token = format!("tskey-api-{client}-{}", cx.text(32, LETTERS));
        let mut body = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": LIFE.as_secs(), "scope": scopes.join(" "),
        });
        if !tags.is_empty() {
            body["tags"] = json!(tags.join(" "));
        }
        self.tokens.retain(|_, token| token.expires > cx.now);
        cx.note(What::SecretIssued { kind: SecretKind::AccessToken, text: token.clone() });
        self.tokens.insert(token, Token { scopes, tags, expires: cx.now + LIFE });
        json_reply(200, &body)
    }

    /// The token that a request carries: as Bearer, or as Basic's user name with an empty password.
    pub(super) fn token_of(&self, cx: &Context, request: &Request<Bytes>) -> Option<Token> {
        let basic = || basic_of(request).filter(|(_, password)| password.is_empty()).map(|(user, _)| user);
        let token = bearer_of(request).map(str::to_owned).or_else(basic)?;
        self.tokens.get(&token).filter(|token| token.expires > cx.now).cloned()
    }

    /// `POST /oauth/token-exchange`: an identity token for an access token. A refusal tells nothing.
    pub(super) fn exchange_token(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() != Method::POST {
            return text_reply(405, "text/plain", "");
        }
        let form = form_of(request);
        let id = self.config.federated_id.clone();
        let accepted = field(&form, "client_id").as_ref() == Some(&id)
            && field(&form, "jwt").and_then(|jwt| claims_of(&jwt)).is_some_and(|claims| {
                claims["iss"] == ISSUER
                    && claims["aud"] == format!("api.tailscale.com/{id}")
                    && claims["sub"].as_str().is_some_and(|subject| fits(&self.config.federated_subject, subject))
                    && claims["exp"].as_i64().is_some_and(|end| end > cx.unix())
            });
        if !accepted {
            let message =
                "Unauthorized. Visit https://login.tailscale.com/admin/settings/trust-credentials for details";
            return tailscale_error(401, message);
        }
        let (scopes, tags) = (self.config.federated_scopes.clone(), self.config.federated_tags.clone());
        self.mint(cx, &id, scopes, tags)
    }

    /// What GitHub does for a job with `id-token: write`: `GET <url>?audience=...` is answered with an identity token.
    pub(super) fn issue_identity(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        if request.uri().path() != "/_sim/oidc/token" {
            return text_reply(404, "text/plain; charset=utf-8", "404 page not found\n");
        }
        if bearer_of(request) != Some(self.config.issuer_token.as_str()) {
            return json_reply(401, &json!({ "message": "unauthorized" }));
        }
        let audience = query_of(request).into_iter().find(|(name, _)| name == "audience").map(|(_, value)| value);
        let claims = json!({
            "iss": ISSUER, "sub": self.config.identity_subject, "iat": cx.unix(), "exp": cx.unix() + 300,
            "aud": audience.unwrap_or_else(|| "https://github.com/example".to_owned()),
        });
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let head = json!({ "alg": "none", "typ": "JWT" });
        let jwt = format!("{}.{}.{}", encode(head.to_string()), encode(claims.to_string()), cx.text(43, LETTERS));
        cx.note(What::SecretIssued { kind: SecretKind::IdentityToken, text: jwt.clone() });
        json_reply(200, &json!({ "value": jwt }))
    }
}

fn form_of(request: &Request<Bytes>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

fn field(form: &[(String, String)], name: &str) -> Option<String> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

/// User name and password of HTTP Basic.
fn basic_of(request: &Request<Bytes>) -> Option<(String, String)> {
    let header = request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let text = String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// The claims of a token of three parts. Nobody here can check a signature, but everything else is.
fn claims_of(jwt: &str) -> Option<Value> {
    let [head, claims, signature] = jwt.split('.').collect::<Vec<_>>().try_into().ok()?;
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    (read(head)?.is_object() && !signature.is_empty()).then(|| read(claims))?
}

/// Whether a text fits a pattern with `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
        }),
    }
}
