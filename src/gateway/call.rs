//! One admitted request of an agent: authenticated, verified, within limits, its body read.

use std::sync::Arc;

use byteview::StrView;

use super::refusal::Refusal;
use super::suspended::Movement;
use crate::acp::header::IdempotencyKey;
use crate::acp::route::Route;
use crate::acp::version::Version;
use crate::auth::signature::{Proof, Verified, VerifiedBody};
use crate::crypto::digest::Sha256;
use crate::crypto::random;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;
use crate::drain::WorkGuard;
use crate::idempotency::{Operation, StoredRequest};
use crate::merchant::{CompleteContext, Context, ForwardedHeaders, Outbound, ProofKind};
use crate::registry::{Agent, Merchant};
use crate::telemetry::trail::Trail;

/// An admitted request.
pub(super) struct Call {
    pub agent: Arc<Agent>,
    pub version: Version,
    pub route: Route,
    pub path: Arc<str>,
    pub passing: ForwardedHeaders,
    pub query: Option<String>,
    pub key: Option<IdempotencyKey>,
    /// SHA-256 of the bearer credential it came with.
    pub credential: Sha256,
    pub verified: Verified,
    /// What is learnt of it on the way.
    pub trail: Trail,
    /// Shutdown waits until the call is dropped.
    pub _work: WorkGuard,
}

impl Call {
    /// The use of its idempotency key. Without one, which versions before 2026-04-17 allow off the
    /// money routes, the operation gets a key nobody can repeat.
    pub(super) fn operation(
        &self,
        rings: &Arc<KeyRings>,
        merchant: Option<&Merchant>,
    ) -> Result<Operation, Refusal> {
        let drawn;
        let key = match &self.key {
            Some(key) => key.as_str(),
            None => {
                // A space cannot stand in a key that an agent sends.
                drawn = format!("none {}", random::base62(22)?);
                &drawn
            }
        };
        let merchant = merchant.map(|merchant| &merchant.id);
        Operation::new(rings, &self.agent.id, merchant, &self.route.method(), &self.path, key, self.body())
            .map_err(Refusal::from)
    }

    /// What it would move, at this merchant.
    pub(super) fn movement<'a>(&'a self, merchant: &'a MerchantId) -> Movement<'a> {
        let key = match self.verified.proof() {
            Proof::Signed { key, .. } => Some(key),
            Proof::BearerOnly { .. } => None,
        };
        Movement {
            agent: Some(&self.agent.id),
            merchant: Some(merchant),
            key,
            credential: Some(&self.credential),
            card: None,
            ends: false,
        }
    }

    /// Its body: what was verified.
    pub(super) fn body(&self) -> &[u8] {
        self.verified.body().as_bytes()
    }

    /// Whether it is signed, so that its limits are not those a thief of the bearer alone uses up.
    pub(super) fn is_signed(&self) -> bool {
        self.verified.is_signed()
    }

    /// What a re-send repeats.
    pub(super) fn stored_request(&self) -> StoredRequest {
        let text = |value: &Option<http::HeaderValue>| {
            value.as_ref().and_then(|value| value.to_str().ok()).map(StrView::new)
        };
        StoredRequest {
            version: StrView::new(&self.passing.version),
            accept_language: text(&self.passing.accept_language),
            content_type: text(&self.passing.content_type),
            body: self.verified.body().clone(),
        }
    }

    /// The request as it goes to the merchant: what is stored of the first use, where it differs.
    pub(super) fn outbound(
        &self,
        stored: Option<StoredRequest>,
        upstream_key: Option<StrView>,
        complete: Option<CompleteContext>,
        grant: Option<String>,
        now: Timestamp,
    ) -> Outbound {
        let mut headers = self.passing.clone();
        let mut body = self.verified.body().clone();
        if let Some(stored) = stored {
            let value = |text: Option<StrView>| text.and_then(|text| text.parse().ok());
            headers.version = stored.version.to_string().into();
            headers.accept_language = value(stored.accept_language);
            headers.content_type = value(stored.content_type);
            body = stored.body;
        }
        Outbound {
            method: self.route.method(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers,
            idempotency_key: upstream_key,
            body,
            context: self.context(complete),
            grant,
            now,
        }
    }

    /// A read of a session on the agent's behalf.
    pub(super) fn session_read(&self, session: &crate::domain::id::SessionId, now: Timestamp) -> Outbound {
        let mut headers = self.passing.clone();
        headers.content_type = None;
        Outbound {
            method: http::Method::GET,
            path: format!("/checkout_sessions/{session}").into(),
            query: None,
            headers,
            idempotency_key: None,
            body: VerifiedBody::none(),
            context: self.context(None),
            grant: None,
            now,
        }
    }

    fn context(&self, complete: Option<CompleteContext>) -> Context {
        let (proof, key) = match self.verified.proof() {
            Proof::Signed { key, .. } => (ProofKind::Signed, Some(key.clone())),
            Proof::BearerOnly { .. } => (ProofKind::Bearer, None),
        };
        Context { agent: self.agent.id.clone(), proof, key, complete }
    }
}
