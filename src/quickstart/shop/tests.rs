//! The shop through its socket, called by the gateway's own outward half.

use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::auth::signature::VerifiedBody;
use crate::crypto::aead::SealingKey;
use crate::crypto::keyset::Ring;
use crate::crypto::mac::MacKey;
use crate::crypto::rings::KeyRings;
use crate::crypto::sign::{Algorithm, SigningKey};
use crate::domain::allowance::Allowance;
use crate::domain::clock::{Deadline, ManualClock, Timestamp};
use crate::domain::id::{AgentId, ClaimId, KeyId, MerchantId, SessionId, TokenId};
use crate::domain::money::{Currency, MinorUnits, Money};
use crate::merchant::{
    self, CompleteContext, Countersigner, Exchange, ForwardedHeaders, Merchants, Outbound, Outcome,
    ProofKind, grant, read_complete,
};
use crate::registry::{
    BreakerSettings, Deadlines, Merchant, MerchantEndpoint, MerchantIdempotency, OutwardSignature,
    PurchaseOrders, Registry,
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_790_000_000);
const TOKEN: &str = "vt_abcdefghij0123456789012345678901";

/// A shop, the gateway's outward half, and a second shop that plays the gateway's redeem.
struct Street {
    shop: Shop,
    vault: Shop,
    merchants: Merchants,
    merchant: Arc<Merchant>,
    countersigner: Arc<Countersigner>,
    clock: Arc<ManualClock>,
    directory: tempfile::TempDir,
}

fn usd(amount: u64) -> Money {
    Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse("usd").unwrap() }
}

fn rings() -> KeyRings {
    fn ring<K>(key: K) -> Ring<K> {
        Ring::new(vec![(KeyId::parse("1").unwrap(), key)]).unwrap()
    }
    let mac = || ring(MacKey::new(b"any"));
    KeyRings {
        signing: ring(SigningKey::generate(Algorithm::Ed25519).unwrap().0),
        sealing: ring(SealingKey::new(&[0; 32]).unwrap()),
        fingerprint: mac(),
        card_fingerprint: mac(),
        derivation: mac(),
    }
}

fn secret(text: &str) -> Arc<SecretString> {
    Arc::new(SecretString::new(text.to_owned()))
}

fn entry(shop: &Shop) -> Merchant {
    let rate = NonZeroU32::MIN;
    let seconds = Duration::from_secs(20);
    Merchant {
        id: MerchantId::parse("shop").unwrap(),
        allowance_ids: Vec::new(),
        endpoint: MerchantEndpoint {
            base_url: shop.base_url().parse().unwrap(),
            further: vec![],
            public_base_url: None,
            ca_file: Some(shop.certificates.authority_file.clone()),
            client_certificate: None,
            allow_private_addresses: true,
            allow_tls12: false,
            pool_idle: seconds,
        },
        hosts: Vec::new(),
        credential: SecretString::new("at-the-shop".to_owned()),
        redeemers: Vec::new(),
        versions: Default::default(),
        idempotency: MerchantIdempotency::Keys,
        signature: OutwardSignature::Countersign,
        deadlines: Deadlines { connect: seconds, first_byte: seconds, total: seconds },
        total_max_age: seconds,
        doubt_grace: seconds,
        pending_max: seconds,
        purchase_orders: PurchaseOrders::Refused,
        adoption: Default::default(),
        retired: false,
        free_orders: false,
        redeem_every_claim: false,
        query_on_get: false,
        breaker: BreakerSettings::default(),
        is_test: false,
        concurrency: rate,
        requests_per_second: rate,
        request_burst: rate,
    }
}

impl Street {
    async fn open(change: impl FnOnce(&mut ShopSettings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let certificates = Certificates::ensure(directory.path(), &[], NOW).unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let mut settings = ShopSettings::new(
            "shop",
            certificates,
            secret("at-the-shop"),
            secret("at-the-gateway"),
            clock.clone(),
        );
        let vault = ShopSettings {
            credential: secret("at-the-gateway"),
            countersigned: false,
            idempotency: false,
            ..settings.clone()
        };
        change(&mut settings);
        let (shop, vault) = (Shop::start(settings).await.unwrap(), Shop::start(vault).await.unwrap());
        shop.connect(vault.address(), "localhost").unwrap();

        let rings = Arc::new(rings());
        let public = rings.signing.current().1.public().clone();
        shop.desk.trust.keys.lock().insert(public.thumbprint(), public);
        let countersigner = Arc::new(Countersigner::new(rings, "https://pay.test".to_owned()));
        let registry = Registry::new(Vec::new(), vec![entry(&shop)], Vec::new());
        let merchant = Arc::clone(registry.merchant(&MerchantId::parse("shop").unwrap()).unwrap());
        let merchants =
            Merchants::new(&registry, Arc::clone(&countersigner), &merchant::Settings::default(), None)
                .unwrap();
        let street = Self { shop, vault, merchants, merchant, countersigner, clock, directory };
        street.hands_out(GOOD_CARD);
        street
    }

    /// Makes the vault hand out this card from now on.
    fn hands_out(&self, number: &str) {
        let body = json!({ "payment_method": { "type": "card", "number": number } }).to_string();
        self.vault.behave(CallKind::Other, Behaviour::Instead(Canned { status: 200, headers: vec![], body }));
    }

    fn outbound(&self, method: Method, path: &str, body: &Value, key: &str) -> Outbound {
        Outbound {
            method,
            path: path.into(),
            query: None,
            headers: ForwardedHeaders {
                version: "2026-04-17".into(),
                accept_language: None,
                content_type: Some(HeaderValue::from_static("application/json")),
                accept: None,
                user_agent: None,
                request_id: "r-1".into(),
                traceparent: None,
                forwarded_for: [192, 0, 2, 1].into(),
                host: "pay.test".into(),
            },
            idempotency_key: Some(key.into()),
            body: body.to_string().into(),
            context: merchant::Context {
                agent: AgentId::parse("agent").unwrap(),
                proof: ProofKind::Signed,
                key: None,
                complete: None,
            },
            grant: None,
            now: self.clock.now(),
        }
    }

    fn completing(&self, session: &str, amount: u64, key: &str) -> Outbound {
        let body = json!({
            "payment_data": {
                "handler_id": "card_tokenized",
                "instrument": { "type": "card", "credential": { "type": "spt", "token": TOKEN } },
            },
        });
        let path = format!("/checkout_sessions/{session}/complete");
        let mut outbound = self.outbound(Method::POST, &path, &body, key);
        outbound.context.complete = Some(CompleteContext {
            token: TokenId::parse(TOKEN),
            claim: ClaimId::parse(key).unwrap(),
            checked: usd(amount),
            attempt: 1,
            review: false,
        });
        outbound.grant = Some(self.grant(session, amount));
        outbound
    }

    fn grant(&self, session: &str, most: u64) -> String {
        let allowance = Allowance {
            agent: AgentId::parse("agent").unwrap(),
            merchant: MerchantId::parse("shop").unwrap(),
            session: SessionId::parse(session).unwrap(),
            cap: usd(most),
            expires_at: NOW.plus(Duration::from_secs(600)),
        };
        grant::mint(&self.countersigner, &TokenId::parse(TOKEN).unwrap(), &allowance, NOW).unwrap()
    }

    async fn send(&self, outbound: Outbound) -> Exchange {
        self.merchants.send(&self.merchant, outbound, Deadline::after(Duration::from_secs(20))).await
    }

    async fn answer(&self, outbound: Outbound) -> (u16, Value) {
        match self.send(outbound).await {
            Exchange::Answered(answer) => {
                (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default())
            }
            exchange => panic!("{exchange:?}"),
        }
    }

    /// A session ready for payment: its id and total.
    async fn session(&self) -> (String, u64) {
        let body = json!({
            "line_items": [{ "id": "item_lamp", "quantity": 2 }],
            "fulfillment_details": { "name": "A", "address": { "country": "US" } },
        });
        let (status, view) =
            self.answer(self.outbound(Method::POST, "/checkout_sessions", &body, "new")).await;
        assert_eq!((status, &view["status"]), (201, &json!("ready_for_payment")), "{view}");
        (view["id"].as_str().unwrap().to_owned(), total(&view))
    }

    async fn complete(&self, session: &str, total: u64, key: &str) -> (u16, Value) {
        self.answer(self.completing(session, total, key)).await
    }

    async fn outcome(&self, session: &str, total: u64, key: &str) -> Outcome {
        let exchange = self.send(self.completing(session, total, key)).await;
        read_complete(&exchange, &SessionId::parse(session).unwrap(), MerchantIdempotency::None).outcome
    }

    fn redeems(&self) -> usize {
        self.vault.calls_of(CallKind::Other).len()
    }
}

fn total(view: &Value) -> u64 {
    let totals = view["totals"].as_array().unwrap();
    totals.iter().find(|row| row["type"] == "total").unwrap()["amount"].as_u64().unwrap()
}

#[tokio::test]
async fn an_order_is_charged_once_and_stands_in_the_ledger() {
    let street = Street::open(|_| {}).await;
    let (session, total) = street.session().await;
    assert_eq!(total, 2 * 7_900 + 1_264 + 500);
    let (status, view) = street.complete(&session, total, "claim-1").await;
    assert_eq!((status, &view["status"]), (200, &json!("completed")), "{view}");
    let charge = &street.shop.charges()[0];
    assert_eq!((charge.amount, charge.last4.as_str(), charge.claim.as_str()), (total, "4242", "claim-1"));
    assert_eq!(view["order"]["id"], json!(charge.order));
    let redeem: Value = serde_json::from_slice(&street.vault.calls_of(CallKind::Other)[0].body).unwrap();
    let asked =
        json!({ "claim": "claim-1", "checkout_session_id": session, "amount": total, "currency": "usd" });
    assert_eq!(redeem, asked);

    let (status, replayed) = street.complete(&session, total, "claim-1").await;
    assert_eq!((status, replayed), (200, view), "the same key and body get the same answer");
    assert_eq!(street.complete(&session, total, "claim-2").await.0, 405);
    let path = format!("/checkout_sessions/{session}/cancel");
    assert_eq!(street.answer(street.outbound(Method::POST, &path, &json!({}), "c")).await.0, 405);
    assert_eq!((street.shop.charges().len(), street.redeems()), (1, 1));
}

#[tokio::test]
async fn a_declined_card_is_redeemed_and_not_charged() {
    let street = Street::open(|_| {}).await;
    street.hands_out(DECLINED_CARD);
    let (session, total) = street.session().await;
    let (_, view) = street.complete(&session, total, "claim-1").await;
    assert_eq!(view["status"], "ready_for_payment");
    assert_eq!(view["messages"][0]["code"], "payment_declined");
    assert_eq!((street.shop.charges().len(), street.redeems()), (0, 1));
}

#[tokio::test]
async fn a_card_that_needs_3ds_is_charged_with_its_result_and_redeemed_once() {
    let street = Street::open(|_| {}).await;
    street.hands_out(SECURE_CARD);
    let (session, total) = street.session().await;
    let (_, view) = street.complete(&session, total, "claim-1").await;
    assert_eq!(view["status"], "authentication_required");
    assert_eq!(view["authentication_metadata"]["directory_server"], "visa");
    let (status, problem) = street.complete(&session, total, "claim-2").await;
    assert_eq!((status, &problem["code"]), (400, &json!("requires_3ds")));
    let mut outbound = street.completing(&session, total, "claim-3");
    let mut body: Value = serde_json::from_slice(outbound.body.as_bytes()).unwrap();
    body["authentication_result"] = json!({ "outcome": "authenticated" });
    outbound.body = body.to_string().into();
    assert_eq!(street.answer(outbound).await.1["status"], "completed");
    assert_eq!((street.shop.charges().len(), street.redeems()), (1, 1), "the card is kept");
}

#[tokio::test]
async fn only_what_the_gateway_signed_for_this_shop_is_believed() {
    let street = Street::open(|_| {}).await;
    let (session, total) = street.session().await;
    let distrust = |shop: &Shop| shop.calls().last().unwrap().distrust;

    let (status, _) = street.complete(&session, total + 1, "claim-1").await;
    assert_eq!(status, 409, "another amount than the session's");
    let mut other_grant = street.completing(&session, total, "claim-2");
    other_grant.grant = Some(street.grant(&session, total - 1));
    assert_eq!(street.answer(other_grant).await.0, 403, "a grant for less");
    let mut other_session = street.completing(&session, total, "claim-3");
    other_session.grant = Some(street.grant("cs_other", total));
    assert_eq!(street.answer(other_session).await.0, 403);

    street.clock.advance(Duration::from_secs(300));
    let mut stale = street.outbound(Method::POST, "/carts", &json!({}), "k");
    stale.now = NOW;
    assert_eq!(street.answer(stale).await.0, 401);
    assert_eq!(distrust(&street.shop), Some(Distrust::NotInForce));

    street.shop.desk.trust.keys.lock().clear();
    let unknown = street.outbound(Method::POST, "/carts", &json!({}), "k");
    assert_eq!(street.answer(unknown).await.0, 401);
    assert_eq!(distrust(&street.shop), Some(Distrust::Invalid));
    assert_eq!((street.shop.charges().len(), street.redeems()), (0, 1), "only the key was asked for");
}

#[tokio::test]
async fn a_shop_of_another_name_believes_nothing() {
    let street = Street::open(|settings| settings.merchant = "other".to_owned()).await;
    let body = json!({ "line_items": [{ "id": "item_lamp" }] });
    let (status, _) = street.answer(street.outbound(Method::POST, "/checkout_sessions", &body, "k")).await;
    assert_eq!((status, street.shop.calls()[0].distrust), (401, Some(Distrust::Audience)));
}

#[tokio::test]
async fn it_misbehaves_as_told() {
    let street = Street::open(|_| {}).await;
    let once = |behaviour| street.shop.behave_once(CallKind::Complete, behaviour);
    let mut expected_charges = 0;
    for (number, (behaviour, outcome, charges)) in [
        (Behaviour::ResetBefore, Outcome::InDoubt, 0),
        (Behaviour::ResetAfter, Outcome::InDoubt, 1),
        (Behaviour::After(Canned::status(503)), Outcome::InDoubt, 1),
        (Behaviour::After(Canned::redirect(303)), Outcome::InDoubt, 1),
        (Behaviour::After(Canned::html(200)), Outcome::InDoubt, 1),
        (Behaviour::Changed(Change::OtherSession), Outcome::InDoubt, 1),
        (Behaviour::Changed(Change::Truncated), Outcome::InDoubt, 1),
        (Behaviour::Changed(Change::HigherTotal(1)), Outcome::Charged, 1),
        (Behaviour::Changed(Change::ConflictingTotals), Outcome::Charged, 1),
        (Behaviour::Changed(Change::Dripping(Duration::ZERO)), Outcome::Charged, 1),
        (Behaviour::Instead(Canned::too_many_requests(1)), Outcome::NotCharged { recorded: false }, 0),
        (Behaviour::Delay(Duration::from_millis(1)), Outcome::Charged, 1),
        (Behaviour::EchoCard, Outcome::NotCharged { recorded: true }, 0),
        (Behaviour::DeclineUnseen, Outcome::NotCharged { recorded: true }, 0),
        (Behaviour::PendingApproval, Outcome::Pending, 0),
        (Behaviour::RedeemMore(1), Outcome::Charged, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let (session, total) = street.session_of(number).await;
        once(behaviour.clone());
        assert_eq!(
            street.outcome(&session, total, &format!("claim-{number}")).await,
            outcome,
            "{behaviour:?}"
        );
        expected_charges += charges;
        assert_eq!(street.shop.charges().len(), expected_charges, "{behaviour:?}");
    }
}

#[tokio::test]
async fn what_is_held_goes_on_when_released_and_duplicates_are_told() {
    let street = Arc::new(Street::open(|_| {}).await);
    let (session, total) = street.session().await;
    street.shop.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let first = {
        let (street, session) = (Arc::clone(&street), session.clone());
        tokio::spawn(async move { street.complete(&session, total, "claim-1").await })
    };
    street.shop.received(CallKind::Complete, 1).await;
    let duplicate = street.complete(&session, total, "claim-1").await;
    assert_eq!((duplicate.0, &duplicate.1["code"]), (409, &json!("idempotency_in_flight")));
    street.shop.release();
    assert_eq!(first.await.unwrap().1["status"], "completed");
}

#[tokio::test]
async fn a_pending_order_waits_for_the_shop_s_people() {
    let street = Street::open(|_| {}).await;
    let (session, total) = street.session().await;
    street.shop.behave_once(CallKind::Complete, Behaviour::PendingApproval);
    assert_eq!(street.complete(&session, total, "claim-1").await.1["status"], "pending_approval");
    assert!(!street.shop.approve("cs_unknown").await);
    assert!(street.shop.approve(&session).await);
    assert!(!street.shop.approve(&session).await);
    assert_eq!(street.shop.charges().len(), 1);
}

#[tokio::test]
async fn a_careless_shop_charges_again() {
    let street = Street::open(|settings| {
        settings.idempotency = false;
        settings.careless = true;
    })
    .await;
    let (session, total) = street.session().await;
    for _ in 0..2 {
        assert_eq!(street.complete(&session, total, "claim-1").await.1["status"], "completed");
    }
    assert_eq!(street.shop.charges().len(), 2);
}

#[tokio::test]
async fn carts_and_older_versions_are_served() {
    let street = Street::open(|settings| settings.http2 = false).await;
    let body = json!({ "line_items": [{ "id": "item_notebook", "quantity": 4 }] });
    let (status, cart) = street.answer(street.outbound(Method::POST, "/carts", &body, "k")).await;
    assert_eq!((status, total(&cart)), (201, 5_400));
    let path = format!("/carts/{}", cart["id"].as_str().unwrap());
    let body = json!({ "line_items": [{ "id": "item_teapot" }] });
    let (status, cart) = street.answer(street.outbound(Method::PUT, &path, &body, "k")).await;
    assert_eq!((status, &cart["messages"][0]["code"]), (200, &json!("out_of_stock")));
    let cancel = format!("{path}/cancel");
    assert_eq!(street.answer(street.outbound(Method::POST, &cancel, &json!({}), "k")).await.0, 200);
    let mut gone = street.outbound(Method::GET, &path, &json!({}), "k");
    (gone.body, gone.idempotency_key) = (VerifiedBody::none(), None);
    assert_eq!(street.answer(gone).await.0, 404);

    let body = json!({
        "items": [{ "id": "item_lamp", "quantity": 1 }],
        "fulfillment_address": { "country": "US" },
        "fulfillment_option_id": "ship_express",
    });
    let mut old = street.outbound(Method::POST, "/checkout_sessions", &body, "k");
    old.headers.version = "2025-09-29".into();
    let (status, view) = street.answer(old).await;
    assert_eq!((status, &view["fulfillment_option_id"]), (201, &json!("ship_express")));
    assert_eq!((total(&view), &view["line_items"][0]["total"]), (10_032, &json!(8_532)));
}

#[tokio::test]
async fn the_shop_closes_when_it_is_dropped() {
    let street = Street::open(|_| {}).await;
    street.session().await;
    let outbound = street.outbound(Method::POST, "/checkout_sessions", &json!({}), "k");
    let Street { shop, merchants, merchant, directory, .. } = street;
    drop(shop);
    let exchange = merchants.send(&merchant, outbound, Deadline::after(Duration::from_secs(20))).await;
    assert!(matches!(exchange, Exchange::NotSent(_) | Exchange::Lost(_)), "{exchange:?}");
    drop(directory);
}

impl Street {
    /// As [`Street::session`], under a key of its own.
    async fn session_of(&self, number: usize) -> (String, u64) {
        let body = json!({
            "line_items": [{ "id": "item_lamp", "quantity": 1 }],
            "fulfillment_details": { "name": "A", "address": { "country": "US" } },
        });
        let key = format!("new-{number}");
        let (_, view) = self.answer(self.outbound(Method::POST, "/checkout_sessions", &body, &key)).await;
        (view["id"].as_str().unwrap().to_owned(), total(&view))
    }
}
