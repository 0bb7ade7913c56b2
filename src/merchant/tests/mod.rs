//! Sending, against real servers on local sockets that behave as badly as merchants can.

mod connecting;
mod failing;
mod headers;
mod http2;
mod keeping;
mod server;
mod streams;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::*;
use crate::auth::signature::VerifiedBody;
use crate::crypto::aead::SealingKey;
use crate::crypto::keyset::Ring;
use crate::crypto::mac::MacKey;
use crate::crypto::rings::KeyRings;
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, ClaimId, KeyId, SessionId, TokenId};
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::domain::secret::SecretString;
use crate::registry::{
    BreakerSettings, Deadlines, MerchantEndpoint, MerchantIdempotency, OutwardSignature, PurchaseOrders,
    Registry,
};

/// One merchant, as the gateway would hold it.
struct Shop {
    merchants: Merchants,
    merchant: Arc<Merchant>,
}

impl Shop {
    /// A shop at a local URL, with short deadlines.
    fn at(base_url: &str) -> Self {
        Self::with(base_url, |_| {})
    }

    fn with(base_url: &str, change: impl FnOnce(&mut Merchant)) -> Self {
        Self::try_with(base_url, change).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn try_with(base_url: &str, change: impl FnOnce(&mut Merchant)) -> Result<Self, Vec<SetupError>> {
        Self::set_up(base_url, Settings::default(), change)
    }

    fn set_up(
        base_url: &str,
        settings: Settings,
        change: impl FnOnce(&mut Merchant),
    ) -> Result<Self, Vec<SetupError>> {
        let mut merchant = entry(base_url);
        change(&mut merchant);
        let registry = Registry::new(vec![], vec![merchant], vec![]);
        let merchant = Arc::clone(registry.merchants().next().unwrap());
        let settings = Settings { max_answer_bytes: 64 * 1024, ..settings };
        let merchants = Merchants::new(&registry, Arc::new(countersigner()), &settings, None)?;
        Ok(Self { merchants, merchant })
    }

    async fn send(&self, outbound: Outbound) -> Exchange {
        self.merchants.send(&self.merchant, outbound, Deadline::after(Duration::from_secs(20))).await
    }

    async fn complete(&self) -> Exchange {
        self.send(complete()).await
    }
}

fn entry(base_url: &str) -> Merchant {
    Merchant {
        id: MerchantId::parse("shop").unwrap(),
        allowance_ids: vec![],
        endpoint: MerchantEndpoint {
            base_url: base_url.parse().unwrap(),
            further: vec![],
            public_base_url: Some("https://Shop.example:443/acp/".parse().unwrap()),
            ca_file: None,
            client_certificate: None,
            allow_private_addresses: true,
            allow_tls12: false,
            pool_idle: Duration::from_secs(10),
        },
        hosts: vec![],
        credential: SecretString::new("merchant-credential".to_owned()),
        redeemers: vec![],
        versions: BTreeSet::from(["2026-04-17".to_owned()]),
        idempotency: MerchantIdempotency::Keys,
        signature: OutwardSignature::Countersign,
        deadlines: Deadlines {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(5),
            total: Duration::from_secs(10),
        },
        total_max_age: Duration::from_secs(600),
        doubt_grace: Duration::from_secs(600),
        pending_max: Duration::from_secs(600),
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

fn countersigner() -> Countersigner {
    fn ring<K>(key: K) -> Ring<K> {
        Ring::new(vec![(KeyId::parse("k1").unwrap(), key)]).unwrap()
    }
    let mac = || ring(MacKey::new(b"any"));
    let rings = KeyRings {
        signing: ring(SigningKey::generate(Algorithm::Ed25519).unwrap().0),
        sealing: ring(SealingKey::new(&[0; 32]).unwrap()),
        fingerprint: mac(),
        card_fingerprint: mac(),
        derivation: mac(),
    };
    Countersigner::new(Arc::new(rings), "https://gateway.example".to_owned())
}

fn session() -> SessionId {
    SessionId::parse("cs_1").unwrap()
}

/// A complete of session `cs_1`.
fn complete() -> Outbound {
    Outbound {
        method: Method::POST,
        path: "/checkout_sessions/cs_1/complete".into(),
        query: None,
        headers: ForwardedHeaders {
            version: "2026-04-17".into(),
            accept_language: Some(HeaderValue::from_static("de-CH")),
            content_type: Some(HeaderValue::from_static("application/json")),
            accept: Some(HeaderValue::from_static("application/json")),
            user_agent: Some(HeaderValue::from_static("agent/7")),
            request_id: "req-1".into(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            forwarded_for: "2001:db8::7".parse().unwrap(),
            host: "gateway.example:8443".into(),
        },
        idempotency_key: Some("derived-key".into()),
        body: Bytes::from_static(b"{ \"payment_data\": {\"amount\":1.0}, \"a\": null }").into(),
        context: Context {
            agent: AgentId::parse("agent-1").unwrap(),
            proof: ProofKind::Signed,
            key: Some(KeyId::parse("agent-key").unwrap()),
            complete: Some(CompleteContext {
                token: Some(TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap()),
                claim: ClaimId::parse("derived-key").unwrap(),
                checked: Money {
                    amount: MinorUnits::new(1999).unwrap(),
                    currency: Currency::parse("usd").unwrap(),
                },
                attempt: 1,
                review: false,
            }),
        },
        grant: Some("grant.of.token".to_owned()),
        now: Timestamp::from_unix_millis(1_700_000_000_999),
    }
}

/// A read of session `cs_1`.
fn read() -> Outbound {
    Outbound {
        method: Method::GET,
        path: "/checkout_sessions/cs_1".into(),
        idempotency_key: None,
        body: VerifiedBody::none(),
        grant: None,
        context: Context { complete: None, ..complete().context },
        headers: ForwardedHeaders { content_type: None, ..complete().headers },
        ..complete()
    }
}
