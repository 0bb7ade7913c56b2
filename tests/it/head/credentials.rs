//! Who may ask, and what proves it: bearer, signature, TLS.

use std::sync::Arc;
use std::time::Duration;

use countersign::auth::signature::SignatureError;
use countersign::domain::clock::{Clock, ManualClock, SystemClock, Timestamp};
use countersign::quickstart::agent::{Call, Signed};
use countersign::quickstart::client::Answer;
use http::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::bare;
use crate::world::*;

const SESSIONS: &str = "/m/lamps/checkout_sessions";
const TOKEN: &str = "vt_abcdefghij0123456789012345678901";

/// Every operation that is not public.
fn operations() -> Vec<(Method, String)> {
    let session = format!("{SESSIONS}/cs_1");
    let tokens = "/agentic_commerce";
    vec![
        (Method::POST, SESSIONS.to_owned()),
        (Method::GET, session.clone()),
        (Method::POST, session.clone()),
        (Method::POST, format!("{session}/complete")),
        (Method::POST, format!("{session}/cancel")),
        (Method::POST, "/m/lamps/carts".to_owned()),
        (Method::GET, "/m/lamps/carts/cart_1".to_owned()),
        (Method::PUT, "/m/lamps/carts/cart_1".to_owned()),
        (Method::POST, "/m/lamps/carts/cart_1/cancel".to_owned()),
        (Method::POST, format!("{tokens}/delegate_payment")),
        (Method::POST, format!("/m/lamps{tokens}/delegate_payment")),
        (Method::GET, format!("{tokens}/issued_tokens/{TOKEN}")),
        (Method::POST, format!("{tokens}/issued_tokens/{TOKEN}/revoke")),
        (Method::GET, format!("{tokens}/granted_tokens/{TOKEN}")),
        (Method::POST, format!("{tokens}/granted_tokens/{TOKEN}/redeem")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_without_a_known_bearer_every_operation_is_401_and_no_merchant_is_called() {
    let world = World::start().await;
    let alpha = world.alpha();
    let own = alpha.settings().credential.expose();
    for (method, path) in operations() {
        for authorization in [
            None,
            Some("Bearer somebody-else".to_owned()),
            Some("Bearer".to_owned()),
            Some(format!("Basic {own}")),
            Some(own.to_owned()),
            Some(format!("Bearer {own}x")),
        ] {
            let mut call = alpha.call(method.clone(), &path).without("authorization");
            if let Some(value) = &authorization {
                call = call.header("authorization", value);
            }
            let call = if method == Method::GET { call } else { call.json(&json!({})) };
            let answer = call.send().await.unwrap();
            assert_eq!(answer.status, 401, "{method} {path} {authorization:?}");
            let expected = json!({"type": "invalid_request", "code": "unauthorized", "message": "A valid bearer credential is required."});
            assert_eq!(answer.json(), expected, "{method} {path} {authorization:?}");
        }
        let twice = alpha.call(method.clone(), &path).header("authorization", format!("Bearer {own}"));
        assert_eq!(twice.send().await.unwrap().status, 400, "{method} {path}: two credentials");
    }
    // Whoever is known gets further.
    assert_eq!(bare(&alpha, &Method::GET, &format!("{SESSIONS}/cs_1")).await.status, 404);
    assert!(world.lamps.calls().is_empty() && world.books.calls().is_empty());
}

/// A signature that was refused for this reason. delegate_payment's closed list of codes has one word
/// for all of them; the message says which.
fn assert_refused(answer: &Answer, reason: SignatureError, what: &str) {
    assert_eq!(answer.status, 401, "{what}: {}", answer.json());
    assert!(answer.text("/message").unwrap().contains(&reason.to_string()), "{what}: {}", answer.json());
    let code = answer.code().unwrap();
    assert!(code == reason.code() || code == "unauthorized", "{what}: {}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn h11_a_bad_signature_is_401_where_one_is_demanded_and_where_none_is() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let mandate = mint_request(GOOD_CARD, "lamps", &session, total);
    let mint = || alpha.post("/agentic_commerce/delegate_payment", &mandate);
    let order = lamp_order();
    let create = || alpha.post(SESSIONS, &order);
    let made = |answer: &Answer| assert_eq!(answer.status, 201, "{}", answer.json());

    // Where money moves a signature is demanded; elsewhere an absent one will do.
    assert_refused(&mint().unsigned().send().await.unwrap(), SignatureError::Required, "a mint");
    made(&create().unsigned().send().await.unwrap());
    for signed in [Signed::Rfc9421, Signed::AcpBound] {
        made(&mint().signed(signed).send().await.unwrap());
        made(&create().signed(signed).send().await.unwrap());
        // A wrong one never counts as none.
        for call in [mint(), create()] {
            let mut prepared = call.signed(signed).prepare().unwrap();
            let body = String::from_utf8(prepared.body.to_vec()).unwrap();
            prepared.body = body.replacen("Ada", "Eve", 1).into();
            let answer = alpha.send(&prepared).await.unwrap();
            assert_eq!(answer.status, 401, "{signed:?}: another body: {}", answer.json());
        }
        let beta = world.agent(1, |settings| settings.credential = alpha.settings().credential.clone());
        for call in [beta.post("/agentic_commerce/delegate_payment", &mandate), beta.post(SESSIONS, &order)] {
            let answer = call.signed(signed).send().await.unwrap();
            assert_refused(&answer, SignatureError::Invalid, &format!("{signed:?}: another agent's key"));
        }
    }
    let mut moved = mint().prepare().unwrap();
    moved.path = "/m/lamps/agentic_commerce/delegate_payment".to_owned();
    assert_eq!(alpha.send(&moved).await.unwrap().status, 401, "another path");
    for missing in ["@method", "@authority", "@path", "content-digest", "idempotency-key"] {
        let all = ["@method", "@authority", "@path", "content-digest", "idempotency-key"];
        let some: Vec<&str> = all.into_iter().filter(|name| *name != missing).collect();
        let answer = mint().covering(&some).send().await.unwrap();
        assert_eq!(answer.status, 401, "without {missing}: {}", answer.json());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h11_a_signature_made_more_than_300_seconds_from_now_is_401() {
    let now = SystemClock.now();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(now.unix_seconds())));
    let world = World::with(Options { clock: Some(Arc::clone(&clock)), ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let mandate = mint_request(GOOD_CARD, "lamps", &session, total);
    let seconds = Duration::from_secs;
    let past = |by| clock.now().minus(seconds(by));
    let future = |by| clock.now().plus(seconds(by));
    // An RFC 9421 signature of at most 300 s that was made 300 s ago has just expired.
    for (signed, at, accepted) in [
        (Signed::AcpBound, past(300), true),
        (Signed::AcpBound, past(301), false),
        (Signed::AcpBound, future(300), true),
        (Signed::AcpBound, future(301), false),
        (Signed::Rfc9421, past(299), true),
        (Signed::Rfc9421, past(301), false),
        (Signed::Rfc9421, future(300), true),
        (Signed::Rfc9421, future(301), false),
    ] {
        let order = lamp_order();
        let calls =
            [alpha.post("/agentic_commerce/delegate_payment", &mandate), alpha.post(SESSIONS, &order)];
        for (money, call) in [true, false].into_iter().zip(calls) {
            let answer = call.signed(signed).created(at).send().await.unwrap();
            let what = format!("{signed:?} {at:?} money {money}");
            if accepted {
                assert_eq!(answer.status, 201, "{what}: {}", answer.json());
            } else {
                assert_refused(&answer, SignatureError::OutsideWindow, &what);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h11_a_policy_can_demand_signatures_on_everything_or_on_nothing() {
    let read = |call: Call<'_>| call.unsigned().prepare().unwrap();
    let always = Options { agent: "signature = { required = \"always\" }".to_owned(), ..Options::default() };
    let world = World::with(always).await;
    let alpha = world.alpha();
    let unsigned = read(alpha.get(format!("{SESSIONS}/cs_1")));
    assert_refused(&alpha.send(&unsigned).await.unwrap(), SignatureError::Required, "a read");
    assert_eq!(bare(&alpha, &Method::GET, &format!("{SESSIONS}/cs_1")).await.status, 404);

    let never = Options { agent: "signature = { required = \"never\" }".to_owned(), ..Options::default() };
    let world = World::with(never).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let mandate = mint_request(GOOD_CARD, "lamps", &session, total);
    let mint = || alpha.post("/agentic_commerce/delegate_payment", &mandate);
    assert_eq!(mint().unsigned().send().await.unwrap().status, 201);
    let mut wrong = mint().prepare().unwrap();
    wrong.body = format!("{} ", String::from_utf8(wrong.body.to_vec()).unwrap()).into();
    assert_eq!(alpha.send(&wrong).await.unwrap().status, 401, "a wrong one never counts as none");
}

/// Shakes hands in this version of TLS.
async fn handshake(world: &World, version: &'static SupportedProtocolVersion) -> std::io::Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&world.certificates.authority_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(world.app().public_address()).await?;
    let name = ServerName::try_from(GATEWAY).unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.shutdown().await
}

#[tokio::test(flavor = "multi_thread")]
async fn h12_the_listener_refuses_tls_below_1_3() {
    let world = World::start().await;
    handshake(&world, &rustls::version::TLS13).await.unwrap();
    let refused = handshake(&world, &rustls::version::TLS12).await.unwrap_err();
    let reason = refused.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let alert = rustls::AlertDescription::ProtocolVersion;
    assert_eq!(reason, Some(&rustls::Error::AlertReceived(alert)), "{refused}");
}
