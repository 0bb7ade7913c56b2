//! What a merchant receives: exactly the headers we mean, under signatures that verify.
//!
//! Exactly the headers we mean, the body byte for byte, and signatures that verify with nothing but the
//! published rules.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use serde_json::json;

use super::server::{self, COMPLETED, answering};
use super::*;
use crate::crypto::digest::sha256;
use crate::crypto::jwt;
use crate::crypto::mac::MacKey;
use crate::crypto::sign::VerifyingKey;
use crate::domain::allowance::Allowance;

/// A request as it stood on the wire.
struct Received {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Received {
    fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap().to_owned();
        let mut headers = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            assert!(headers.insert(name.to_ascii_lowercase(), value.to_owned()).is_none(), "{name} twice");
        }
        Self { line, headers, body: bytes[end + 4..].to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }

    fn names(&self) -> Vec<&str> {
        self.headers.keys().map(String::as_str).collect()
    }
}

/// Sends to a shop and gives what it received.
async fn received(shop: impl FnOnce(&str) -> Shop, outbound: Outbound) -> (Received, Shop) {
    let (address, seen) = answering(server::json("200 OK", COMPLETED)).await;
    let shop = shop(&format!("http://{address}/base/"));
    let exchange = shop.send(outbound).await;
    assert!(exchange.answer().is_some(), "{exchange:?}");
    (Received::parse(&seen.requests()[0]), shop)
}

#[tokio::test]
async fn a_complete_arrives_with_these_headers_and_no_others() {
    let outbound = complete();
    let sent = outbound.body.clone().into_bytes();
    let (received, _) = received(Shop::at, outbound).await;
    assert_eq!(received.line, "POST /base/checkout_sessions/cs_1/complete HTTP/1.1");
    assert_eq!(received.body, sent);
    assert_eq!(
        received.names(),
        [
            "accept",
            "accept-encoding",
            "accept-language",
            "api-version",
            "authorization",
            "content-digest",
            "content-length",
            "content-type",
            "countersign-context",
            "countersign-grant",
            "forwarded",
            "host",
            "idempotency-key",
            "request-id",
            "signature",
            "signature-input",
            "timestamp",
            "traceparent",
            "user-agent",
        ]
    );
    for (name, value) in [
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
        ("accept-language", "de-CH"),
        ("api-version", "2026-04-17"),
        ("authorization", "Bearer merchant-credential"),
        ("content-type", "application/json"),
        (
            "countersign-context",
            "merchant=\"shop\", agent=\"agent-1\", proof=\"signed\", key=\"agent-key\", rid=\"req-1\", \
             token=\"vt_abcdefghij0123456789012345678901\", claim=\"derived-key\", amount=1999, \
             currency=\"usd\", attempt=1, review=?0",
        ),
        ("countersign-grant", "grant.of.token"),
        ("forwarded", "for=\"[2001:db8::7]\";host=\"gateway.example:8443\";proto=https"),
        ("idempotency-key", "derived-key"),
        ("request-id", "req-1"),
        ("timestamp", "2023-11-14T22:13:20Z"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("user-agent", concat!("agent/7 countersign/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(received.header(name), value, "{name}");
    }
    let digest = format!("sha-256=:{}:", STANDARD.encode(sha256(&[&sent])));
    assert_eq!(received.header("content-digest"), digest);
}

#[tokio::test]
async fn a_read_arrives_with_what_is_missing_filled_in() {
    let mut outbound = read();
    outbound.query = Some("a=1&b".to_owned());
    outbound.headers.accept = None;
    outbound.headers.accept_language = None;
    outbound.headers.user_agent = None;
    outbound.headers.traceparent = None;
    outbound.headers.forwarded_for = "::ffff:192.0.2.1".parse().unwrap();
    outbound.context.key = None;
    outbound.context.proof = ProofKind::Bearer;
    let (received, shop) = received(Shop::at, outbound).await;
    assert_eq!(received.line, "GET /base/checkout_sessions/cs_1?a=1&b HTTP/1.1");
    assert_eq!(
        received.names(),
        [
            "accept",
            "accept-encoding",
            "api-version",
            "authorization",
            "content-digest",
            "countersign-context",
            "forwarded",
            "host",
            "request-id",
            "signature",
            "signature-input",
            "timestamp",
            "user-agent",
        ]
    );
    let context = "merchant=\"shop\", agent=\"agent-1\", proof=\"bearer\", rid=\"req-1\"";
    assert_eq!(received.header("countersign-context"), context);
    assert_eq!(received.header("forwarded"), "for=192.0.2.1;host=\"gateway.example:8443\";proto=https");
    let target = "https://shop.example/acp/checkout_sessions/cs_1?a=1&b";
    assert!(verifies(&received, "GET", target, public_key(&shop)));
}

fn public_key(shop: &Shop) -> &VerifyingKey {
    shop.merchants.countersigner.current().1.public()
}

/// RFC 9421 §3.2 as a merchant would do it, from the wire and the rules alone: the parameters'
/// bytes as received, a line for each name between the parentheses.
fn verifies(received: &Received, method: &str, target_uri: &str, key: &VerifyingKey) -> bool {
    let parameters = received.header("signature-input").strip_prefix("countersign=").unwrap();
    let names = parameters.strip_prefix('(').unwrap().split_once(')').unwrap().0;
    let mut base = String::new();
    for name in names.split(' ') {
        let value = match name {
            "\"@method\"" => method,
            "\"@target-uri\"" => target_uri,
            field => received.header(field.trim_matches('"')),
        };
        base.push_str(&format!("{name}: {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    let signature = received.header("signature");
    let encoded = signature.strip_prefix("countersign=:").unwrap().strip_suffix(':').unwrap();
    key.verifies(base.as_bytes(), &STANDARD.decode(encoded).unwrap())
}

#[tokio::test]
async fn the_countersignature_verifies_and_covers_what_is_promised() {
    let (received, shop) = received(Shop::at, complete()).await;
    let key = public_key(&shop);
    assert_eq!(
        received.header("signature-input"),
        format!(
            "countersign=(\"@method\" \"@target-uri\" \"content-digest\" \"content-type\" \"idempotency-key\" \
             \"api-version\" \"forwarded\" \"countersign-context\" \"countersign-grant\")\
             ;created=1700000000;expires=1700000300;keyid=\"{}\";tag=\"countersign\"",
            key.thumbprint()
        )
    );
    let target = "https://shop.example/acp/checkout_sessions/cs_1/complete";
    assert!(verifies(&received, "POST", target, key));
    assert!(!verifies(&received, "PUT", target, key));
    assert!(!verifies(&received, "POST", &target.replace("cs_1", "cs_2"), key));
    for name in ["content-digest", "idempotency-key", "countersign-context", "countersign-grant", "forwarded"]
    {
        let mut changed = Received {
            line: received.line.clone(),
            headers: received.headers.clone(),
            body: received.body.clone(),
        };
        changed.headers.get_mut(name).unwrap().push('x');
        assert!(!verifies(&changed, "POST", target, key), "{name}");
    }
}

#[tokio::test]
async fn a_merchant_that_knows_only_acps_header_gets_that() {
    let shared = MacKey::new(b"shared with the shop");
    let acp = |url: &str| {
        Shop::with(url, |merchant| {
            merchant.signature = OutwardSignature::Acp(MacKey::new(b"shared with the shop"))
        })
    };
    for outbound in [complete(), read()] {
        let (received, _) = received(acp, outbound).await;
        for absent in ["signature-input", "countersign-grant"] {
            assert!(!received.headers.contains_key(absent), "{absent}");
        }
        // An independent RFC 8785 implementation.
        let canonical = if received.body.is_empty() {
            vec![]
        } else {
            let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
            serde_json_canonicalizer::to_vec(&body).unwrap()
        };
        let signed = [received.header("timestamp").as_bytes(), b".", &canonical].concat();
        let signature = URL_SAFE_NO_PAD.decode(received.header("signature")).unwrap();
        assert!(shared.verifies(&signed, &signature));
    }
}

#[tokio::test]
async fn only_allowed_headers_come_back() {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\nset-cookie: a=b\r\n\
         location: https://elsewhere.example\r\nsignature: sig1=:AAAA:\r\nidempotency-key: derived-key\r\n\
         cache-control: no-store\r\ncontent-language: de\r\nretry-after: 5\r\nserver: x\r\n\
         content-length: {}\r\n\r\n{COMPLETED}",
        COMPLETED.len()
    );
    let (address, _) = answering(answer).await;
    let exchange = Shop::at(&format!("http://{address}")).complete().await;
    let passed = relay(exchange.answer().unwrap()).unwrap();
    let mut names: Vec<_> = passed.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-language", "retry-after"]);
    assert_eq!(passed.body, COMPLETED.as_bytes());
}

#[test]
fn a_grant_states_the_allowance_and_verifies_under_the_published_key() {
    let countersigner = countersigner();
    let allowance = Allowance {
        agent: AgentId::parse("agent-1").unwrap(),
        merchant: MerchantId::parse("shop").unwrap(),
        session: session(),
        cap: Money { amount: MinorUnits::new(2000).unwrap(), currency: Currency::parse("USD").unwrap() },
        expires_at: Timestamp::from_unix_millis(1_700_003_600_999),
    };
    let token = TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap();
    let grant = grant::mint(&countersigner, &token, &allowance, complete().now).unwrap();
    let (kid, key) = countersigner.current();
    let header = URL_SAFE_NO_PAD.decode(grant.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, json!({"typ": "payment-grant+jwt", "alg": "EdDSA", "kid": kid}));
    let claims: serde_json::Value = jwt::verify(key.public(), &grant, "payment-grant+jwt").unwrap();
    assert_eq!(
        claims,
        json!({
            "iss": "https://gateway.example",
            "aud": "shop",
            "sub": "agent-1",
            "jti": token.as_str(),
            "iat": 1_700_000_000,
            "exp": 1_700_003_600,
            "allowance": {
                "reason": "one_time",
                "max_amount": 2000,
                "currency": "usd",
                "checkout_session_id": "cs_1",
                "merchant_id": "shop",
                "expires_at": "2023-11-14T23:13:20.999Z",
            },
        })
    );
}
