//! A redeemer that proves itself by a client certificate is believed for as long as that is good.

use std::sync::Arc;

use bytes::Bytes;
use countersign::crypto::digest::sha256;
use countersign::quickstart::client::{Client, Http};
use countersign::quickstart::shop::{Behaviour, CallKind};
use http::Request;
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::ClientConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::*;

/// Longer than any clock of the test runs, and shorter than the certificate authority's own life.
const LIFE: Duration = Duration::from_secs(30 * 86_400);

/// An authority's PEM, a certificate's fingerprint, and TLS that presents it.
fn certificate(world: &World) -> (String, String, ClientConfig) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut leaf = CertificateParams::new(vec!["lamps.test".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let now = Duration::from_millis(u64::try_from(world.clock.now().unix_millis()).unwrap());
    leaf.not_before = rcgen::date_time_ymd(1970, 1, 1) + (now - Duration::from_secs(3600));
    leaf.not_after = rcgen::date_time_ymd(1970, 1, 1) + (now + LIFE);
    let key = KeyPair::generate().unwrap();
    let own = leaf.signed_by(&key, &authority).unwrap();
    let hex: String = sha256(&[own.der()]).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let certified = CertifiedKey::from_der(vec![own.der().clone()], key, &default_provider()).unwrap();
    let mut tls = world.certificates.client().unwrap();
    tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    (authority.pem(), format!("sha256:{hex}"), tls)
}

#[tokio::test(flavor = "multi_thread")]
async fn from_its_end_on_a_client_certificate_gets_no_card_on_kept_and_resumed_connections() {
    let (mut world, clock) = at_rest(Options::default()).await;
    let (authority, fingerprint, tls) = certificate(&world);
    std::fs::write(world.directory.path().join("clients.pem"), authority).unwrap();
    let proof = format!("certificates = [\"{fingerprint}\"]");
    let change = |text: String| {
        let text = text.replacen("networks = [\"127.0.0.0/8\"]", &proof, 1);
        text.replacen("\nkey_file = ", "\nclient_ca_file = \"clients.pem\"\nkey_file = ", 1)
    };
    world.reopen(&[], change).await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave(CallKind::Complete, Behaviour::HoldBefore);
    let waiting = tokio::spawn({
        let (alpha, session, token) = (alpha.clone(), session.clone(), token.clone());
        async move { complete(&alpha, "lamps", &session, &token).await }
    });
    world.lamps.received(CallKind::Complete, 1).await;
    let claim = world.lamps.calls_of(CallKind::Complete)[0].idempotency_key.clone().unwrap();

    let address = world.app().public_address();
    let kept = Client::new(address, tls.clone(), Http::Two);
    let bearer = format!("Bearer {}", world.redeemer.expose());
    let uri = format!("https://{GATEWAY}/agentic_commerce/granted_tokens/{token}");
    let view = || Request::get(&uri).header("authorization", &bearer).body(Full::<Bytes>::default()).unwrap();
    let redeem = || {
        let body = json!({
            "claim": claim, "checkout_session_id": session, "amount": total, "currency": "usd"
        });
        let request = Request::post(format!("{uri}/redeem")).header("authorization", &bearer);
        request.header("content-type", "application/json").body(Full::new(body.to_string().into())).unwrap()
    };
    assert_eq!(kept.send(view()).await.unwrap().status, 200, "while it is good");

    clock.advance(LIFE);
    clock.advance(Duration::from_secs(1));
    let resumed = Client::new(address, tls, Http::Two);
    for client in [&kept, &resumed] {
        for request in [view(), redeem()] {
            let refused = client.send(request).await.unwrap();
            assert_eq!(
                (refused.status.as_u16(), refused.code().as_deref()),
                (401, Some("redeemer_not_proven")),
                "{}",
                refused.json()
            );
        }
    }
    world.lamps.release();
    waiting.await.unwrap();
}
