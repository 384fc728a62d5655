//! Access tokens: from an OAuth client, or from an identity token that GitHub hands out (`facts/tailscale-and-first-boot.md` A1).

use std::sync::PoisonError;
use std::time::Duration;

use super::{ATTEMPT_LIMIT, Tailscale, TailscaleError, decode};
use crate::secret::Secret;
use crate::transport::request::{Draft, form};
use crate::transport::{BaseUrl, Call, Fetch, Repeat, TransportError, Urgency, Within, clean, timeout_at};
use bytes::Bytes;
use http::Method;
use serde::Deserialize;

const FORM: &str = "application/x-www-form-urlencoded";
/// A token is renewed this long before its end, so that no request meets the end on its way.
const MARGIN: Duration = Duration::from_secs(60);
/// No token is relied upon for longer, whatever it says of itself; Tailscale's live an hour.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// What a token counts for that does not say how long it lives (fault T04).
const UNSAID_LIFE: u64 = 60;

/// What proves to Tailscale who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// An OAuth client.
    OAuth {
        /// Its public id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
    },
    /// Workload identity: a federated identity at Tailscale that trusts GitHub's identity tokens. No stored secret.
    Federated {
        /// The public id of the federated identity.
        client_id: String,
        /// Where GitHub hands out identity tokens (`ACTIONS_ID_TOKEN_REQUEST_URL`).
        issuer: BaseUrl,
        /// What GitHub wants to see for it (`ACTIONS_ID_TOKEN_REQUEST_TOKEN`).
        issuer_token: Secret,
    },
}

/// An access token.
pub(super) type Token = Secret;

#[derive(Deserialize)]
struct WireToken {
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
    #[serde(default)]
    scope: Option<String>,
}

/// A token as it was minted.
struct Minted {
    token: Secret,
    life: Duration,
    /// What it may do, where Tailscale says so.
    scopes: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WireIdentity {
    #[serde(default)]
    value: String,
}

impl Tailscale {
    /// The access token, fetched if there is none or it is about to end.
    ///
    /// # Errors
    ///
    /// Those of the token's own request; other requests wrap them in [`TailscaleError::NoToken`].
    pub async fn access_token(&self, within: Within) -> Result<Secret, TailscaleError> {
        let clock = self.chain.clock();
        let fetch = || -> Fetch<'_, _, _> {
            Box::pin(async {
                let began = clock.now();
                let Minted { token, life, .. } = self.mint(within).await?;
                let life = life.min(LONGEST_LIFE);
                Ok((token, began + life.saturating_sub(MARGIN).max(life / 2)))
            })
        };
        let late = || TransportError::Timeout { host: "Tailscale".to_owned() };
        let token = timeout_at(within.deadline, self.tailnet.token.get(clock, &fetch)).await;
        let token = token.unwrap_or_else(|| Err(late().into()))?;
        // Whoever fetched it: a log of this call has to mask it as well.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_ref() != Some(&token) {
            (self.on_secret)(&token);
            *told = Some(token.clone());
        }
        Ok(token)
    }

    /// A token of one's own, that lives as long as tokens do.
    pub async fn new_access_token(&self, within: Within) -> Result<Secret, TailscaleError> {
        let Minted { token, .. } = self.mint(within).await?;
        (self.on_secret)(&token);
        Ok(token)
    }

    /// What a new token may do by the credential's scopes, such as `auth_keys`, where Tailscale says so. The token itself is not kept.
    pub async fn granted_scopes(&self, within: Within) -> Result<Option<Vec<String>>, TailscaleError> {
        let Minted { token, scopes, .. } = self.mint(within).await?;
        (self.on_secret)(&token);
        Ok(scopes)
    }

    async fn mint(&self, within: Within) -> Result<Minted, TailscaleError> {
        // Whatever is asked of Tailscale needs it, and undos wait for it as well.
        let within = Within { urgency: Urgency::Undo, ..within };
        match &self.credentials {
            Credentials::OAuth { client_id, client_secret } => {
                let fields = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id.as_str()),
                    ("client_secret", client_secret.expose()),
                ];
                self.fetch_token("get access token", "/oauth/token", &fields, within).await
            }
            Credentials::Federated { client_id, issuer, issuer_token } => {
                let identity = self.identity_token(client_id, issuer, issuer_token, within).await?;
                let fields = [("client_id", client_id.as_str()), ("jwt", identity.expose())];
                self.fetch_token("exchange identity token", "/oauth/token-exchange", &fields, within).await
            }
        }
    }

    /// Drops the token in hand, because it was refused.
    pub(super) async fn forget_token(&self, token: &Secret) {
        self.tailnet.token.forget(token).await;
    }

    async fn fetch_token(
        &self,
        operation: &'static str,
        path: &str,
        fields: &[(&str, &str)],
        within: Within,
    ) -> Result<Minted, TailscaleError> {
        let draft = self.draft(Method::POST, path, &[]).body(FORM, form(fields));
        let is_bearer = |wire: &WireToken| {
            let bearer = wire.token_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
            if bearer && !wire.access_token.is_empty() { Ok(()) } else { Err("it holds no bearer token") }
        };
        let wire = self.ask_for_token(operation, "Tailscale", draft, within, is_bearer).await?;
        let life = wire.expires_in.filter(|seconds| *seconds > 0).unwrap_or(UNSAID_LIFE);
        let scopes = wire.scope.map(|scopes| scopes.split_whitespace().map(clean).collect());
        Ok(Minted { token: Secret::new(wire.access_token), life: Duration::from_secs(life), scopes })
    }

    async fn identity_token(
        &self,
        client_id: &str,
        issuer: &BaseUrl,
        issuer_token: &Secret,
        within: Within,
    ) -> Result<Secret, TailscaleError> {
        // Tailscale's default audience for a federated identity (A1).
        let audience = format!("api.tailscale.com/{client_id}");
        let draft = issuer.request(Method::GET, "", &[("audience", &audience)]).bearer(issuer_token);
        let who = "the issuer of the identity token";
        let is_there = |wire: &WireIdentity| {
            if wire.value.is_empty() { Err("it holds no identity token") } else { Ok(()) }
        };
        let wire = self.ask_for_token("get identity token", who, draft, within, is_there).await?;
        let identity = Secret::new(wire.value);
        (self.on_secret)(&identity);
        Ok(identity)
    }

    /// Token requests may be repeated: a token that nobody heard of dies by itself. Refusals keep no text.
    async fn ask_for_token<T: serde::de::DeserializeOwned + Send>(
        &self,
        operation: &'static str,
        who: &'static str,
        draft: Draft,
        within: Within,
        check: impl Fn(&T) -> Result<(), &'static str> + Send + Sync,
    ) -> Result<T, TailscaleError> {
        let unreadable = |what| TailscaleError::Unreadable { what, request_id: None };
        let call = Call { operation, request: draft.build()?, repeat: Repeat::Safe, attempt_limit: ATTEMPT_LIMIT };
        let read = |answer: &http::Response<Bytes>| match self.accept(answer) {
            Err(error) if error.is_unsigned() => Err(error),
            Err(TailscaleError::Refused { status: status @ (400..=428 | 430..=499), request_id, .. }) => {
                Err(TailscaleError::Credential { who, status, request_id })
            }
            // Whatever else it says may echo what it was sent.
            Err(TailscaleError::Refused { status, retry_after, request_id, .. }) => {
                Err(TailscaleError::Refused { status, message: String::new(), retry_after, request_id })
            }
            Err(error) => Err(error),
            Ok(()) => decode(answer).and_then(|wire| check(&wire).map(|()| wire).map_err(unreadable)),
        };
        self.chain.call(&call, within, read).await
    }
}
