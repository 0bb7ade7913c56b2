//! Behaviour of the signature policy, profile by profile, and what an attacker may change: nothing.

mod acp;
mod http;
mod tampering;

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::crypto::mac::MacKey;
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::id::AgentId;
use crate::http_signature::{CONTENT_DIGEST, Component, Signing, content_digest};
use crate::registry::{
    AcpVariant, AgentKey, BodyForm, Encoding, KeyMaterial, SignaturePolicy, SignedParts, TimestampForm,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_780_000_000);
const BODY: &[u8] = br#"{"b": 1.0, "a": "x"}"#;
const PATH: &str = "/m/shop/checkout_sessions/cs_1/complete";

/// An agent, the keys it signs with, and the request it is about to sign.
struct Sender {
    agent: Agent,
    signing: Vec<SigningKey>,
    method: String,
    authority: String,
    path: String,
    query: Option<&'static str>,
    headers: HeaderMap,
    body: Bytes,
    key: Option<String>,
    money_route: bool,
}

const ALL: [Profile; 3] = [Profile::Rfc9421, Profile::AcpBound, Profile::Acp];

fn sender(profiles: &[Profile], required: SignatureRequired) -> Sender {
    let signing: Vec<_> =
        [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256].map(|a| SigningKey::generate(a).unwrap().0).into();
    let key = |id: &str, material| AgentKey { id: KeyId::parse(id).unwrap(), material };
    let mut keys = vec![key("hmac", KeyMaterial::Shared(MacKey::new(b"shared")))];
    for (id, signer) in ["ed", "p256"].iter().zip(&signing) {
        keys.push(key(id, KeyMaterial::Public(signer.public().clone())));
    }
    let one = NonZeroU32::MIN;
    let agent = Agent {
        id: AgentId::parse("agent").unwrap(),
        credentials: Vec::new(),
        keys,
        signature: SignaturePolicy {
            required,
            profiles: profiles.iter().copied().collect::<BTreeSet<_>>(),
            acp: AcpVariant::default(),
        },
        merchants: None,
        token_ceiling: Vec::new(),
        token_life: Duration::from_secs(60),
        live_tokens: 1,
        live_tokens_per_session: 1,
        kept_bytes: 1 << 30,
        requests_per_second: one,
        request_burst: one,
        default_version: None,
        traces: false,
    };
    let mut headers = HeaderMap::new();
    headers.insert("idempotency-key", HeaderValue::from_static("k-1"));
    headers.insert(CONTENT_DIGEST, content_digest::make(BODY));
    Sender {
        agent,
        signing,
        method: "POST".into(),
        authority: "pay.example".into(),
        path: PATH.into(),
        query: None,
        headers,
        body: Bytes::from_static(BODY),
        key: Some("k-1".into()),
        money_route: true,
    }
}

const COVERED: [&str; 5] = ["@method", "@authority", "@path", "content-digest", "idempotency-key"];

/// How a test signs with RFC 9421.
#[derive(Clone)]
struct Made<'a> {
    components: &'a [&'a str],
    created: Timestamp,
    expires: Option<i64>,
    keyid: &'a str,
    nonce: Option<&'a str>,
    signer: usize,
}

const MADE: Made<'_> =
    Made { components: &COVERED, created: NOW, expires: Some(300), keyid: "ed", nonce: None, signer: 0 };

impl Sender {
    fn request(&self) -> SignedRequest<'_> {
        SignedRequest {
            message: MessageView {
                method: &self.method,
                scheme: "https",
                authority: &self.authority,
                path: &self.path,
                query: self.query,
                headers: &self.headers,
            },
            body: &self.body,
            idempotency_key: self.key.as_deref(),
            money_route: self.money_route,
        }
    }

    fn verify(&self) -> Result<Verified, SignatureError> {
        verify(&self.agent, &self.request(), NOW).map_err(|refusal| refusal.rule)
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }

    /// Signs under `label`, beside the signatures that are already there.
    fn sign_as(&mut self, label: &str, made: &Made<'_>) {
        let components: Vec<_> = made.components.iter().map(|name| Component::parse(name).unwrap()).collect();
        let signed = Signing {
            label,
            components: &components,
            created: made.created,
            expires: made.expires.map(|s| Timestamp::from_unix_seconds(made.created.unix_seconds() + s)),
            keyid: made.keyid,
            nonce: made.nonce,
            tag: None,
        }
        .sign(&self.request().message, &self.signing[made.signer])
        .unwrap();
        let mut add = |name: HeaderName, value: HeaderValue| {
            let before = self.headers.get(&name).map(|v| format!("{}, ", v.to_str().unwrap()));
            let joined = before.unwrap_or_default() + value.to_str().unwrap();
            self.headers.insert(name, HeaderValue::from_str(&joined).unwrap());
        };
        add(SIGNATURE_INPUT, signed.input);
        add(SIGNATURE, signed.signature);
    }

    /// Signs by ACP's header and answers the signature's bytes.
    fn sign_acp(&mut self, profile: Profile, timestamp: &str, signer: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let scheme =
            if profile == Profile::AcpBound { Scheme::Bound } else { Scheme::Acp(self.agent.signature.acp) };
        let bytes = scheme.signed_bytes(&self.request(), timestamp).unwrap();
        let signature = signer(&bytes);
        self.set("timestamp", timestamp);
        self.set("signature", &URL_SAFE_NO_PAD.encode(&signature));
        signature
    }
}

fn signed_by(verified: Result<Verified, SignatureError>) -> (String, Profile, bool) {
    match verified.unwrap().proof() {
        Proof::Signed { key, profile, replay } => (key.to_string(), *profile, replay.is_some()),
        Proof::BearerOnly { .. } => panic!("not signed"),
    }
}

#[test]
fn without_a_signature_policy_decides() {
    use SignatureRequired::{Always, MoneyRoutes, Never};
    for (required, money_route, passes) in [
        (Always, true, false),
        (Always, false, false),
        (MoneyRoutes, true, false),
        (MoneyRoutes, false, true),
        (Never, true, true),
    ] {
        let mut sender = sender(&ALL, required);
        sender.money_route = money_route;
        let verified = sender.verify();
        if passes {
            let verified = verified.unwrap();
            assert_eq!(
                (verified.proof(), verified.outcome()),
                (&Proof::BearerOnly { replay: None }, VerificationOutcome::Absent)
            );
        } else {
            assert_eq!(verified, Err(SignatureError::Required));
        }
    }
}

#[test]
fn a_bad_signature_is_never_taken_for_none() {
    for (input, signature) in [("sig1=()", "sig1=:AQ==:"), ("garbage(", "x"), ("", "x")] {
        let mut sender = sender(&ALL, SignatureRequired::Never);
        sender.money_route = false;
        sender.set("signature-input", input);
        sender.set("signature", signature);
        let refused = sender.verify().unwrap_err();
        assert_eq!(refused.outcome(), VerificationOutcome::Invalid, "{input}");
    }
    let mut sender = sender(&ALL, SignatureRequired::Never);
    sender.set("signature", "AQID");
    assert_eq!(sender.verify(), Err(SignatureError::ParameterMissing));
    sender.set("timestamp", &NOW.to_rfc3339());
    assert_eq!(sender.verify(), Err(SignatureError::Invalid));
}

#[test]
fn a_profile_that_is_not_allowed_is_refused_even_where_nothing_is_demanded() {
    let mut rfc = sender(&[Profile::Acp, Profile::AcpBound], SignatureRequired::Never);
    rfc.sign_as("sig1", &MADE);
    assert_eq!(rfc.verify(), Err(SignatureError::ProfileNotAllowed));
    let mut acp = sender(&[Profile::Rfc9421], SignatureRequired::Never);
    acp.sign_acp(Profile::Acp, &NOW.to_rfc3339(), |bytes| MacKey::new(b"shared").tag(&[bytes]).into());
    assert_eq!(acp.verify(), Err(SignatureError::ProfileNotAllowed));
    // A signature of the looser profile is not one of the stricter.
    acp.agent.signature.profiles = [Profile::AcpBound].into();
    assert_eq!(acp.verify(), Err(SignatureError::Invalid));
}
