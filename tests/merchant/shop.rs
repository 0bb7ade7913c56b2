//! A merchant on a local socket and the gateway that sends to it. Apart from the cases because it
//! says nothing of what is right or wrong.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::auth::signature::VerifiedBody;
use countersign::crypto::aead::SealingKey;
use countersign::crypto::jwks;
use countersign::crypto::keyset::Ring;
use countersign::crypto::mac::MacKey;
use countersign::crypto::rings::KeyRings;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::allowance::Allowance;
use countersign::domain::clock::{Deadline, Timestamp};
use countersign::domain::id::{AgentId, ClaimId, KeyId, MerchantId, SessionId, TokenId};
use countersign::domain::money::{Currency, MinorUnits, Money};
use countersign::domain::secret::SecretString;
use countersign::http_signature::{Component, MessageView, Signing};
use countersign::merchant::{
    CompleteContext, Context, Countersigner, ForwardedHeaders, LABEL, Merchants, Outbound, ProofKind,
    Settings, grant,
};
use countersign::registry::{
    BreakerSettings, Deadlines, Merchant, MerchantEndpoint, MerchantIdempotency, OutwardSignature,
    PurchaseOrders, Registry,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::programs::Request;

/// When everything is sent, in seconds since the epoch.
pub const NOW: i64 = 1_700_000_000;
pub const TOKEN: &str = "vt_abcdefghij0123456789012345678901";
/// Whom the merchant says it is: what stands before the path in a target URI.
const ORIGIN: &str = "https://shop.example";

/// A merchant named `shop`, and the gateway in front of it.
pub struct Shop {
    listener: TcpListener,
    rings: Arc<KeyRings>,
    countersigner: Arc<Countersigner>,
    merchants: Merchants,
    merchant: Arc<Merchant>,
}

impl Shop {
    /// A shop whose gateway signs with a new key, and publishes an older one of the other algorithm
    /// too.
    pub async fn open(algorithm: Algorithm) -> Self {
        let older = match algorithm {
            Algorithm::Ed25519 => Algorithm::EcdsaP256Sha256,
            Algorithm::EcdsaP256Sha256 => Algorithm::Ed25519,
        };
        let signing = [("older", older), ("newer", algorithm)]
            .map(|(id, algorithm)| (KeyId::parse(id).unwrap(), SigningKey::generate(algorithm).unwrap().0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/acp", listener.local_addr().unwrap());
        let rings = Arc::new(rings(signing.into_iter().rev().collect()));
        let countersigner =
            Arc::new(Countersigner::new(Arc::clone(&rings), "https://gateway.example".to_owned()));
        let registry = Registry::new(vec![], vec![entry(&base_url)], vec![]);
        let merchant = Arc::clone(registry.merchants().next().unwrap());
        let merchants =
            Merchants::new(&registry, Arc::clone(&countersigner), &Settings::default(), None).unwrap();
        Self { listener, rings, countersigner, merchants, merchant }
    }

    /// The key set the gateway publishes.
    pub fn jwks(&self) -> Value {
        jwks::document(&self.rings.signing)
    }

    pub fn signing_key(&self) -> &SigningKey {
        self.rings.signing.current().1
    }

    pub fn keyid(&self) -> String {
        self.signing_key().public().thumbprint()
    }

    /// Sends a request through the gateway and gives it as it came out of the socket.
    pub async fn receive(&self, outbound: Outbound) -> Request {
        let deadline = Deadline::after(Duration::from_secs(20));
        let sending = self.merchants.send(&self.merchant, outbound, deadline);
        let (exchange, request) = tokio::join!(sending, self.answer_one());
        assert!(exchange.answer().is_some(), "{exchange:?}");
        request
    }

    /// Answers one request, and closes so that the next one comes on a connection of its own.
    async fn answer_one(&self) -> Request {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut bytes = vec![];
        loop {
            if let Some(request) = whole_request(&bytes) {
                let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
                stream.write_all(answer).await.unwrap();
                return request;
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "hung up early");
        }
    }

    /// A complete of session `cs_1` that every check accepts.
    pub fn complete(&self) -> Outbound {
        Outbound {
            method: Method::POST,
            path: "/checkout_sessions/cs_1/complete".into(),
            query: None,
            headers: ForwardedHeaders {
                version: "2026-04-17".into(),
                accept_language: Some(HeaderValue::from_static("de-CH")),
                content_type: Some(HeaderValue::from_static("application/json")),
                accept: None,
                user_agent: None,
                request_id: "req \"1\"".into(),
                traceparent: None,
                forwarded_for: "2001:db8::7".parse().unwrap(),
                host: "gateway.example".into(),
            },
            idempotency_key: Some("derived-key".into()),
            body: body(json!({ "instrument": { "credential": { "type": "spt", "token": TOKEN } } })),
            context: Context {
                agent: AgentId::parse("agent-1").unwrap(),
                proof: ProofKind::Signed,
                key: KeyId::parse("agent-key"),
                complete: Some(CompleteContext {
                    token: TokenId::parse(TOKEN),
                    claim: ClaimId::parse("derived-key").unwrap(),
                    checked: amount(1999, "usd"),
                    attempt: 1,
                    review: true,
                }),
            },
            grant: Some(self.grant(&self.allowance())),
            now: Timestamp::from_unix_seconds(NOW),
        }
    }

    /// A read of session `cs_1`.
    pub fn read(&self) -> Outbound {
        let complete = self.complete();
        Outbound {
            method: Method::GET,
            path: "/checkout_sessions/cs_1".into(),
            query: Some("expand=totals".to_owned()),
            idempotency_key: None,
            body: VerifiedBody::none(),
            grant: None,
            context: Context { complete: None, ..complete.context },
            headers: ForwardedHeaders { content_type: None, ..complete.headers },
            ..complete
        }
    }

    /// What the token may be spent on.
    pub fn allowance(&self) -> Allowance {
        Allowance {
            agent: AgentId::parse("agent-1").unwrap(),
            merchant: MerchantId::parse("shop").unwrap(),
            session: SessionId::parse("cs_1").unwrap(),
            cap: amount(2000, "usd"),
            expires_at: Timestamp::from_unix_seconds(NOW + 3600),
        }
    }

    pub fn grant(&self, allowance: &Allowance) -> String {
        let now = Timestamp::from_unix_seconds(NOW);
        grant::mint(&self.countersigner, &TokenId::parse(TOKEN).unwrap(), allowance, now).unwrap()
    }

    /// The claims of that grant, as far as they are checked.
    pub fn claims(&self) -> Value {
        let allowance = json!({ "max_amount": 2000, "currency": "usd" });
        json!({ "aud": "shop", "jti": TOKEN, "exp": NOW + 3600, "allowance": allowance })
    }

    /// A JWT of those claims under the gateway's `kid`, whoever signs it and whatever it calls itself.
    pub fn jwt(&self, key: &SigningKey, alg: &str, typ: &str) -> String {
        let head = json!({ "typ": typ, "alg": alg, "kid": self.keyid() });
        let signed = [head, self.claims()].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(key.sign(signed.as_bytes()).unwrap()))
    }

    /// The request with another signature of the gateway's own key.
    pub fn sign_anew(&self, request: &Request, components: &[&str], life: u64, tag: &str) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let message = MessageView {
            method: &request.method,
            scheme: "https",
            authority: "shop.example",
            path: request.target_uri.strip_prefix(ORIGIN).unwrap(),
            query: None,
            headers: &headers,
        };
        let components: Vec<_> = components.iter().map(|name| Component::parse(name).unwrap()).collect();
        let created = Timestamp::from_unix_seconds(NOW);
        let signing = Signing {
            label: LABEL,
            components: &components,
            created,
            expires: Some(created.plus(Duration::from_secs(life))),
            keyid: &self.keyid(),
            nonce: None,
            tag: Some(tag),
        };
        let signed = signing.sign(&message, self.signing_key()).unwrap();
        let mut request = request.clone();
        *request.header("signature-input") = signed.input.to_str().unwrap().to_owned();
        *request.header("signature") = signed.signature.to_str().unwrap().to_owned();
        request
    }
}

/// The request, once its head and body are complete.
fn whole_request(bytes: &[u8]) -> Option<Request> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let mut request_line = lines.next().unwrap().split(' ');
    let (method, target) = (request_line.next().unwrap(), request_line.next().unwrap());
    let headers: Vec<(String, String)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let body = bytes[end + 4..].to_vec();
    let target_uri = format!("{ORIGIN}{target}");
    (body.len() >= length).then(|| Request { method: method.to_owned(), target_uri, headers, body })
}

/// A body whose `payment_data` this is.
pub fn body(payment_data: Value) -> VerifiedBody {
    kept(&json!({ "payment_data": payment_data, "note": "naïve" }))
}

/// A body as it comes back from where it was kept, which is the only way to one without a signature.
pub fn kept(body: &Value) -> VerifiedBody {
    serde_json::from_value(Value::String(body.to_string())).unwrap()
}

pub fn amount(units: u64, currency: &str) -> Money {
    Money { amount: MinorUnits::new(units).unwrap(), currency: Currency::parse(currency).unwrap() }
}

fn rings(signing: Vec<(KeyId, SigningKey)>) -> KeyRings {
    fn ring<K>(key: K) -> Ring<K> {
        Ring::new(vec![(KeyId::parse("k1").unwrap(), key)]).unwrap()
    }
    KeyRings {
        signing: Ring::new(signing).unwrap(),
        sealing: ring(SealingKey::new(&[0; 32]).unwrap()),
        fingerprint: ring(MacKey::new(b"any")),
        card_fingerprint: ring(MacKey::new(b"any")),
        derivation: ring(MacKey::new(b"any")),
    }
}

fn entry(base_url: &str) -> Merchant {
    let seconds = Duration::from_secs;
    Merchant {
        id: MerchantId::parse("shop").unwrap(),
        allowance_ids: vec![],
        endpoint: MerchantEndpoint {
            base_url: base_url.parse().unwrap(),
            further: vec![],
            public_base_url: Some(format!("{ORIGIN}/acp").parse().unwrap()),
            ca_file: None,
            client_certificate: None,
            allow_private_addresses: true,
            allow_tls12: false,
            pool_idle: seconds(10),
        },
        hosts: vec![],
        credential: SecretString::new("merchant-credential".to_owned()),
        redeemers: vec![],
        versions: BTreeSet::from(["2026-04-17".to_owned()]),
        idempotency: MerchantIdempotency::Keys,
        signature: OutwardSignature::Countersign,
        deadlines: Deadlines { connect: seconds(5), first_byte: seconds(5), total: seconds(10) },
        total_max_age: seconds(600),
        doubt_grace: seconds(600),
        pending_max: seconds(600),
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
