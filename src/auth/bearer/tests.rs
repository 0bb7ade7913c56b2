//! Who is let in by a credential, and who is not.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::*;
use crate::crypto::digest::sha256;
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::id::{AgentId, KeyId};
use crate::domain::secret::SecretString;
use crate::http_signature::{
    CONTENT_DIGEST, Component, MessageView, SIGNATURE, SIGNATURE_INPUT, Signing, content_digest,
};
use crate::registry::{
    AcpVariant, BreakerSettings, Deadlines, MerchantEndpoint, MerchantIdempotency, OutwardSignature,
    PurchaseOrders, SignaturePolicy, SignatureRequired,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_780_000_000);
const PATH: &str = "/agentic_commerce/granted_tokens/vt_1/redeem";

fn merchant(id: &str, proof: RedeemerProof) -> Merchant {
    let second = Duration::from_secs(1);
    let url = http::Uri::from_static("https://shop.example");
    Merchant {
        id: MerchantId::parse(id).unwrap(),
        allowance_ids: vec![id.into()],
        endpoint: MerchantEndpoint {
            base_url: url.clone(),
            further: vec![],
            public_base_url: Some(url),
            ca_file: None,
            client_certificate: None,
            allow_private_addresses: false,
            allow_tls12: false,
            pool_idle: second,
        },
        hosts: vec![],
        credential: SecretString::new("ours".into()),
        redeemers: vec![Redeemer {
            name: "provider".into(),
            credentials: vec![sha256(&[b"redeemer-secret"])],
            proof,
        }],
        versions: BTreeSet::new(),
        idempotency: MerchantIdempotency::Keys,
        signature: OutwardSignature::Countersign,
        deadlines: Deadlines { connect: second, first_byte: second, total: second },
        total_max_age: second,
        doubt_grace: second,
        pending_max: second,
        purchase_orders: PurchaseOrders::Refused,
        adoption: BTreeSet::new(),
        retired: false,
        free_orders: false,
        redeem_every_claim: false,
        query_on_get: false,
        breaker: BreakerSettings::default(),
        is_test: false,
        concurrency: NonZeroU32::MIN,
        requests_per_second: NonZeroU32::MIN,
        request_burst: NonZeroU32::MIN,
    }
}

fn registry(merchants: Vec<Merchant>) -> Registry {
    let agent = Agent {
        id: AgentId::parse("agent").unwrap(),
        credentials: vec![sha256(&[b"agent-secret"])],
        keys: vec![],
        signature: SignaturePolicy {
            required: SignatureRequired::MoneyRoutes,
            profiles: BTreeSet::new(),
            acp: AcpVariant::default(),
        },
        merchants: None,
        token_ceiling: vec![],
        token_life: Duration::from_secs(1),
        live_tokens: 1,
        live_tokens_per_session: 1,
        kept_bytes: 1 << 30,
        requests_per_second: NonZeroU32::MIN,
        request_burst: NonZeroU32::MIN,
        default_version: None,
        traces: false,
    };
    Registry::new(vec![agent], merchants, vec![])
}

fn authorization(value: &'static str) -> HeaderMap {
    [(http::header::AUTHORIZATION, HeaderValue::from_static(value))].into_iter().collect()
}

/// What is sent.
static BODY: Bytes = Bytes::from_static(b"{}");

fn evidence<'a>(peer: &str, certificate: Option<Sha256>, headers: &'a HeaderMap) -> RedeemerEvidence<'a> {
    let message = MessageView {
        method: "POST",
        scheme: "https",
        authority: "pay.example",
        path: PATH,
        query: None,
        headers,
    };
    let request = SignedRequest { message, body: &BODY, idempotency_key: Some("k"), money_route: true };
    RedeemerEvidence { peer: peer.parse().unwrap(), certificate, request }
}

/// The merchants proven, in order.
fn proven(registry: &Registry, evidence: &RedeemerEvidence<'_>) -> Result<Vec<String>, RedeemerError> {
    let candidates = redeemer_candidates(registry, &authorization("Bearer redeemer-secret")).unwrap();
    let redeemer = candidates.prove(evidence, NOW)?;
    let ids: Vec<_> = redeemer.merchants().map(|merchant| merchant.id.to_string()).collect();
    for id in &ids {
        assert_eq!(redeemer.at(&MerchantId::parse(id).unwrap()), Some("provider"));
    }
    assert_eq!(redeemer.at(&MerchantId::parse("other").unwrap()), None);
    Ok(ids)
}

#[test]
fn an_agent_is_known_by_its_credential_alone() {
    let registry = registry(vec![merchant("m", RedeemerProof::Networks(vec![]))]);
    let of = |value| agent(&registry, &authorization(value)).map(|(agent, _)| agent.id.to_string());
    assert_eq!(of("Bearer agent-secret"), Ok("agent".into()));
    assert_eq!(of("Bearer agent-secre"), Err(BearerError::Unknown));
    assert_eq!(of("Bearer redeemer-secret"), Err(BearerError::Unknown));
    assert_eq!(of("Basic agent-secret"), Err(BearerError::Malformed));
    let (_, digest) = agent(&registry, &authorization("Bearer agent-secret")).unwrap();
    assert_eq!(digest, sha256(&[b"agent-secret"]));
    assert_eq!(agent(&registry, &HeaderMap::new()).err(), Some(BearerError::Missing));
    let as_redeemer = redeemer_candidates(&registry, &authorization("Bearer agent-secret"));
    assert_eq!(as_redeemer.err(), Some(BearerError::Unknown));
}

#[test]
fn a_network_proves_a_redeemer_mapped_addresses_included() {
    let networks = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    let registry = registry(vec![merchant("m", RedeemerProof::Networks(networks))]);
    let headers = HeaderMap::new();
    for peer in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
        assert_eq!(proven(&registry, &evidence(peer, None, &headers)), Ok(vec!["m".into()]), "{peer}");
    }
    for peer in ["198.51.100.7", "::1", "::ffff:198.51.100.7"] {
        let refused = proven(&registry, &evidence(peer, Some([1; 32]), &headers));
        assert_eq!(refused, Err(RedeemerError::NotProven), "{peer}");
    }
}

#[test]
fn a_certificate_proves_a_redeemer_only_where_it_is_named() {
    let registry = registry(vec![
        merchant("m", RedeemerProof::Certificates(vec![[1; 32]])),
        merchant("n", RedeemerProof::Certificates(vec![[2; 32]])),
    ]);
    let headers = HeaderMap::new();
    let with = |certificate| proven(&registry, &evidence("192.0.2.7", certificate, &headers));
    assert_eq!(with(Some([2; 32])), Ok(vec!["n".into()]));
    assert_eq!(with(Some([3; 32])), Err(RedeemerError::NotProven));
    assert_eq!(with(None), Err(RedeemerError::NotProven));
}

#[test]
fn a_signature_proves_a_provider_at_each_merchant_that_names_its_key() {
    let (key, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let (other, _) = SigningKey::generate(Algorithm::Ed25519).unwrap();
    let keys = |key: &SigningKey| {
        let material = KeyMaterial::Public(key.public().clone());
        RedeemerProof::Keys(vec![AgentKey { id: KeyId::parse("p1").unwrap(), material }])
    };
    let registry =
        registry(vec![merchant("m", keys(&key)), merchant("n", keys(&other)), merchant("o", keys(&key))]);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DIGEST, content_digest::make(b"{}"));
    headers.insert("idempotency-key", HeaderValue::from_static("k"));
    let unsigned = proven(&registry, &evidence("192.0.2.7", None, &headers));
    assert_eq!(
        unsigned,
        Err(RedeemerError::Signature(crate::auth::signature::SignatureError::Required.into()))
    );
    let components = ["@method", "@authority", "@path", "content-digest", "idempotency-key"]
        .map(|name| Component::parse(name).unwrap());
    let signed = Signing {
        label: "sig1",
        components: &components,
        created: NOW,
        expires: Some(NOW.plus(Duration::from_secs(60))),
        keyid: "p1",
        nonce: Some("n"),
        tag: None,
    }
    .sign(&evidence("192.0.2.7", None, &headers).request.message, &key)
    .unwrap();
    headers.insert(SIGNATURE_INPUT, signed.input);
    headers.insert(SIGNATURE, signed.signature);
    let evidence = evidence("192.0.2.7", None, &headers);
    assert_eq!(proven(&registry, &evidence), Ok(vec!["m".into(), "o".into()]));
    let candidates = redeemer_candidates(&registry, &authorization("Bearer redeemer-secret")).unwrap();
    assert!(candidates.prove(&evidence, NOW).unwrap().replay.is_some());
}
