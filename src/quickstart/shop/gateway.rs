//! The shop as the gateway's client: it reads the published keys and exchanges tokens for cards.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http_body_util::Full;
use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::crypto::sign::VerifyingKey;
use crate::domain::card::Pan;
use crate::domain::secret::SecretString;
use crate::quickstart::client::{Answer, Client, ClientError, Http};

/// Where the gateway is, and who the shop is there.
#[derive(Clone)]
pub(super) struct GatewayLink {
    client: Client,
    authority: String,
    credential: Arc<SecretString>,
}

/// What a redeem asks for.
#[derive(Clone, Debug)]
pub struct Redeem {
    /// The token.
    pub token: String,
    /// The claim: the idempotency key that came with complete.
    pub claim: String,
    /// The session.
    pub session: String,
    /// Minor units.
    pub amount: u64,
    /// Three lower-case letters.
    pub currency: String,
}

/// A redeem that gave no card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRedeemed {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// The error's code, if there was one.
    pub code: Option<String>,
}

impl NotRedeemed {
    /// Whether the gateway gave no answer, or none about the card.
    pub(super) fn says_nothing(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

impl GatewayLink {
    pub(super) fn new(
        address: SocketAddr,
        authority: String,
        tls: ClientConfig,
        credential: Arc<SecretString>,
    ) -> Self {
        Self { client: Client::new(address, tls, Http::Two), authority, credential }
    }

    /// The gateway's published keys; `None` when they cannot be had.
    pub(super) async fn keys(&self) -> Option<HashMap<String, VerifyingKey>> {
        let uri = format!("https://{}/.well-known/jwks.json", self.authority);
        let answer = self.client.send(Request::get(uri).body(Full::default()).ok()?).await.ok()?;
        let read = |jwk: &Value| {
            let id = jwk.get("kid")?.as_str()?.to_owned();
            Some((id, VerifyingKey::from_jwk(&jwk.to_string()).ok()?))
        };
        Some(answer.json().get("keys")?.as_array()?.iter().filter_map(read).collect())
    }

    /// Asks for the card; the gateway's whole answer.
    pub(super) async fn redeem(&self, redeem: &Redeem) -> Result<Answer, ClientError> {
        let uri =
            format!("https://{}/agentic_commerce/granted_tokens/{}/redeem", self.authority, redeem.token);
        let body = json!({
            "claim": redeem.claim,
            "checkout_session_id": redeem.session,
            "amount": redeem.amount,
            "currency": redeem.currency,
        });
        let request = Request::post(uri)
            .header(AUTHORIZATION, format!("Bearer {}", self.credential.expose()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        self.client.send(request).await
    }

    /// The card, or why there is none.
    pub(super) async fn card(&self, redeem: &Redeem) -> Result<Pan, NotRedeemed> {
        let Ok(answer) = self.redeem(redeem).await else {
            return Err(NotRedeemed { status: None, code: None });
        };
        let number = answer.text("/payment_method/number").filter(|_| answer.status.is_success());
        number
            .and_then(|number| Pan::parse_fpan(&number))
            .ok_or_else(|| NotRedeemed { status: Some(answer.status.as_u16()), code: answer.code() })
    }
}
