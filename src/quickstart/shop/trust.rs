//! Why the shop believes a request, as any merchant would have to.
//!
//! The gateway's credential, its countersignature over everything that matters, and on complete the
//! grant. What a merchant's own integration has to do.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use parking_lot::Mutex;
use serde_json::Value;

use super::context::Context;
use super::gateway::GatewayLink;
use crate::acp::header::IDEMPOTENCY_KEY;
use crate::crypto::digest::sha256;
use crate::crypto::jwt;
use crate::crypto::sign::VerifyingKey;
use crate::domain::clock::Timestamp;
use crate::http_signature::{Component, MessageView, ReceivedSignature, content_digest, received};

/// The label and tag of the gateway's signature.
const LABEL: &str = "countersign";
const CONTEXT: HeaderName = HeaderName::from_static("countersign-context");
const GRANT: HeaderName = HeaderName::from_static("countersign-grant");
/// The JWT type of a grant.
const GRANT_TYPE: &str = "payment-grant+jwt";
/// What the signature must cover whether or not the message has it.
const COVERED: [&str; 6] =
    ["@method", "@target-uri", "content-digest", "api-version", "forwarded", "countersign-context"];
/// Clocks may differ by this much, in seconds.
const SKEW: i64 = 60;

/// Why a request is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// Not the gateway's credential.
    #[error("the bearer credential is not the gateway's")]
    Credential,
    /// No signature labelled `countersign`, or an unreadable one.
    #[error("there is no countersignature")]
    Absent,
    /// Not made now.
    #[error("the countersignature is not in force")]
    NotInForce,
    /// It leaves out something that matters.
    #[error("the countersignature covers too little")]
    Uncovered,
    /// By no key of the gateway, or over other bytes.
    #[error("the countersignature does not verify")]
    Invalid,
    /// The body is not the one signed.
    #[error("the body is not the one that was signed")]
    Body,
    /// The context cannot be read.
    #[error("the context cannot be read")]
    Context,
    /// Meant for another merchant.
    #[error("the request is meant for another merchant")]
    Audience,
    /// The grant is missing, not the gateway's, expired, or of something else.
    #[error("the grant does not allow this")]
    Grant,
}

/// What the shop believes by.
pub(super) struct Trust {
    /// Its name, as the gateway's context and grants say it.
    pub merchant: String,
    /// SHA-256 of the gateway's credential.
    pub credential: [u8; 32],
    /// The authority it knows itself by.
    pub authority: String,
    /// Whether a countersignature is asked for.
    pub countersigned: bool,
    /// The gateway's keys, by id.
    pub keys: Mutex<HashMap<String, VerifyingKey>>,
}

impl Trust {
    /// Believes a request and says under which context it runs, or why not.
    pub(super) async fn verify(
        &self,
        head: &Parts,
        body: &[u8],
        gateway: Option<&GatewayLink>,
        now: Timestamp,
    ) -> Result<Option<Context>, Distrust> {
        if !self.is_the_gateways(&head.headers) {
            return Err(Distrust::Credential);
        }
        if !self.countersigned {
            return Ok(None);
        }
        let signature = in_force(&head.headers, now)?;
        let covers = |name: &str| Component::parse(name).is_ok_and(|component| signature.covers(&component));
        let present = |name: &&HeaderName| head.headers.contains_key(*name);
        // And these where the message has them.
        let fields: [HeaderName; 3] = [CONTENT_TYPE, IDEMPOTENCY_KEY, GRANT];
        let all_present = fields.iter().filter(present).all(|name| covers(name.as_str()));
        if !COVERED.iter().all(|name| covers(name)) || !all_present {
            return Err(Distrust::Uncovered);
        }
        let key_id = signature.parameters.keyid.as_deref().ok_or(Distrust::Absent)?;
        let key = self.key(key_id, gateway).await.ok_or(Distrust::Invalid)?;
        let message = MessageView {
            method: head.method.as_str(),
            scheme: "https",
            authority: &self.authority,
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
        };
        let base = signature.base(&message).map_err(|_| Distrust::Invalid)?;
        if !key.verifies(&base, &signature.signature) {
            return Err(Distrust::Invalid);
        }
        content_digest::verify(&head.headers, body).map_err(|_| Distrust::Body)?;
        let context = text(&head.headers, &CONTEXT).and_then(Context::parse).ok_or(Distrust::Context)?;
        if context.merchant != self.merchant {
            return Err(Distrust::Audience);
        }
        Ok(Some(context))
    }

    /// Whether the grant allows what a complete asks for: this token, this session, this amount.
    pub(super) async fn granted(
        &self,
        headers: &HeaderMap,
        context: &Context,
        session: &str,
        gateway: Option<&GatewayLink>,
        now: Timestamp,
    ) -> Result<(), Distrust> {
        let grant = text(headers, &GRANT).ok_or(Distrust::Grant)?;
        let key_id = key_id_of(grant).ok_or(Distrust::Grant)?;
        let key = self.key(&key_id, gateway).await.ok_or(Distrust::Grant)?;
        let claims: Value = jwt::verify(&key, grant, GRANT_TYPE).map_err(|_| Distrust::Grant)?;
        let claim = |pointer: &str| claims.pointer(pointer);
        let says = |pointer: &str, expected: Option<&str>| {
            expected.is_some() && claim(pointer).and_then(Value::as_str) == expected
        };
        let expires = claim("/exp").and_then(Value::as_i64).unwrap_or(0);
        let most = claim("/allowance/max_amount").and_then(Value::as_u64);
        let allowed = says("/aud", Some(&self.merchant))
            && says("/sub", Some(&context.agent))
            && says("/jti", context.token.as_deref())
            && says("/allowance/currency", context.currency.as_deref())
            && says("/allowance/checkout_session_id", Some(session))
            && now.unix_seconds() < expires
            && context.amount.is_some_and(|amount| most.is_some_and(|most| amount <= most));
        if allowed { Ok(()) } else { Err(Distrust::Grant) }
    }

    fn is_the_gateways(&self, headers: &HeaderMap) -> bool {
        let credential = text(headers, &AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        credential.is_some_and(|credential| sha256(&[credential.as_bytes()]) == self.credential)
    }

    /// The gateway's key of that id. An unknown one is looked up once more: keys rotate.
    async fn key(&self, id: &str, gateway: Option<&GatewayLink>) -> Option<VerifyingKey> {
        if let Some(key) = self.keys.lock().get(id) {
            return Some(key.clone());
        }
        let published = gateway?.keys().await?;
        let mut keys = self.keys.lock();
        *keys = published;
        keys.get(id).cloned()
    }
}

fn in_force(headers: &HeaderMap, now: Timestamp) -> Result<ReceivedSignature, Distrust> {
    let signatures = received(headers).map_err(|_| Distrust::Absent)?;
    let signature = signatures.into_iter().find(|one| *one.label == *LABEL).ok_or(Distrust::Absent)?;
    let parameters = &signature.parameters;
    if parameters.tag.as_deref() != Some(LABEL) {
        return Err(Distrust::Absent);
    }
    let now = now.unix_seconds();
    let begun = parameters.created.is_some_and(|created| created <= now.saturating_add(SKEW));
    let ended = parameters.expires.is_none_or(|expires| expires <= now);
    if begun && !ended { Ok(signature) } else { Err(Distrust::NotInForce) }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `kid` of a JWT's header (RFC 7515 §4.1.4), not yet verified.
fn key_id_of(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    Some(header.get("kid")?.as_str()?.to_owned())
}
