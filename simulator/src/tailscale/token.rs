//! Access tokens and identity tokens (A1).

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};

use super::{LETTERS, Tailscale};
use crate::context::Context;
use crate::reply::{bearer_of, json_reply, query_of, tailscale_error};

const LIFE: Duration = Duration::from_secs(3600);
const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// A living access token.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub scopes: Vec<String>,
    pub tags: Vec<String>,
    pub expires: Duration,
}

impl Tailscale {
    /// `POST /oauth/token`: form or HTTP Basic. The client is found by its secret; the id is ignored.
    pub(super) fn grant_token(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() != http::Method::POST {
            return crate::reply::text_reply(405, "text/plain", "");
        }
        let form = form_of(request);
        let secret = basic_password(request).or_else(|| field(&form, "client_secret"));
        let client = self.config.clients.iter().find(|client| Some(&client.secret) == secret.as_ref()).cloned();
        let Some(client) = client else { return tailscale_error(401, "API token invalid") };
        let asked: Vec<String> =
            field(&form, "scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let missing: Vec<&str> =
            asked.iter().filter(|scope| !client.scopes.contains(scope)).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!("OAuth client cannot grant scopes \"{}\"", missing.join(" "));
            return tailscale_error(403, &message);
        }
        let scopes = if asked.is_empty() { client.scopes } else { asked };
        self.mint(cx, &client.id, scopes, client.tags)
    }

    fn mint(&mut self, cx: &mut Context, client: &str, scopes: Vec<String>, tags: Vec<String>) -> Response<Bytes> {
        let token = format!("tskey-api-{client}-{}", cx.text(32, LETTERS));
        let body = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": LIFE.as_secs(),
            "scope": scopes.join(" "), "tags": tags.join(" "),
        });
        self.tokens.insert(token, Token { scopes, tags, expires: cx.now + LIFE });
        json_reply(200, &body)
    }

    /// `POST /oauth/token-exchange`: an identity token for an access token. A refusal tells nothing.
    pub(super) fn exchange_token(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        let form = form_of(request);
        let id = self.config.federated_id.clone();
        let claims = field(&form, "jwt").and_then(|jwt| claims_of(&jwt));
        let accepted = claims.is_some_and(|claims| {
            field(&form, "client_id").as_ref() == Some(&id)
                && claims["iss"] == ISSUER
                && claims["aud"] == format!("api.tailscale.com/{id}")
                && claims["sub"].as_str().is_some_and(|subject| subject.starts_with("repo:"))
                && claims["exp"].as_i64().is_some_and(|end| end > cx.unix())
        });
        if !accepted {
            return tailscale_error(
                401,
                "Unauthorized. Visit the trust credentials page of the admin console for details",
            );
        }
        let (scopes, tags) = self
            .config
            .clients
            .first()
            .map_or_else(Default::default, |client| (client.scopes.clone(), client.tags.clone()));
        self.mint(cx, &id, scopes, tags)
    }

    /// What GitHub does for a job with `id-token: write`: an identity token for an audience.
    pub(super) fn issue_identity(&mut self, cx: &mut Context, request: &Request<Bytes>) -> Response<Bytes> {
        if bearer_of(request) != Some(self.config.issuer_token.as_str()) {
            return json_reply(401, &json!({ "message": "unauthorized" }));
        }
        let audience = query_of(request).into_iter().find(|(name, _)| name == "audience").map(|(_, value)| value);
        let claims = json!({
            "iss": ISSUER, "aud": audience, "sub": "repo:example/app:environment:production",
            "iat": cx.unix(), "exp": cx.unix() + 300,
        });
        let jwt = format!(
            "{}.{}.{}",
            encode(r#"{"alg":"none","typ":"JWT"}"#),
            encode(&claims.to_string()),
            cx.text(43, LETTERS)
        );
        json_reply(200, &json!({ "value": jwt }))
    }
}

fn form_of(request: &Request<Bytes>) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.body()).into_owned().collect()
}

fn field(form: &[(String, String)], name: &str) -> Option<String> {
    form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

fn basic_password(request: &Request<Bytes>) -> Option<String> {
    use base64::Engine as _;
    let header = request.headers().get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let text = base64::engine::general_purpose::STANDARD.decode(header.strip_prefix("Basic ")?.trim()).ok()?;
    String::from_utf8(text).ok()?.split_once(':').map(|(_, password)| password.to_owned())
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

fn claims_of(jwt: &str) -> Option<Value> {
    use base64::Engine as _;
    let mut parts = jwt.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    if parts.next().is_some() { None } else { serde_json::from_slice(&text).ok() }
}
