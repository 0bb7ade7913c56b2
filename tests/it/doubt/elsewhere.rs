//! Answers that are not the merchant's own, or not about what was asked.

use countersign::quickstart::shop::{Behaviour, CallKind, Canned, Change};
use serde_json::json;

use super::*;

/// Every call that names a session or cart, and how often it was made.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_about_another_session_or_cart_reaches_nobody_and_is_alarmed() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let agent = &purchase.agent;
    let order = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
    let cart = agent.post("/m/lamps/carts", &order).send().await.unwrap().text("/id").unwrap();
    let cart_path = format!("/m/lamps/carts/{cart}");
    let kinds = [
        CallKind::Read,
        CallKind::Update,
        CallKind::Cancel,
        CallKind::CartRead,
        CallKind::CartUpdate,
        CallKind::CartCancel,
    ];
    for (before, kind) in kinds.into_iter().enumerate() {
        doubt.shop().behave_once(kind, Behaviour::Changed(Change::OtherSession));
        let call = match kind {
            CallKind::Update => agent.post(purchase.path(""), &order),
            CallKind::Cancel => agent.post(purchase.path("/cancel"), &json!({})),
            CallKind::CartRead => agent.get(&cart_path),
            CallKind::CartUpdate => agent.call(http::Method::PUT, &cart_path).json(&order),
            CallKind::CartCancel => agent.post(format!("{cart_path}/cancel"), &json!({})),
            _ => agent.get(purchase.path("")),
        };
        assert_told(&call.send().await.unwrap(), 502, "merchant_answer_invalid");
        let alarms = || {
            let log = doubt.world.log.text();
            log.lines().filter(|line| line.contains(r#""event":"answer_of_another_session""#)).count()
        };
        doubt.until("the alarm", async || alarms() > before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_the_merchants_place_binds_no_key_and_says_nothing_of_the_session() {
    let doubt = Doubt::start().await;
    for status in [400, 404, 405, 413, 414, 421, 431] {
        let agent = doubt.world.alpha();
        let page = || Behaviour::Instead(Canned::html(status));
        // A create, and the same create again.
        let create = agent.post("/m/lamps/checkout_sessions", &lamp_order()).prepare().unwrap();
        doubt.shop().behave_once(CallKind::Create, page());
        assert_told(&agent.send(&create).await.unwrap(), 502, "merchant_answer_invalid");
        let created = agent.send(&create).await.unwrap();
        assert_eq!((created.status.as_u16(), created.header("idempotent-replayed")), (201, None), "{status}");

        let purchase = doubt.purchase().await;
        doubt.shop().behave_once(CallKind::Read, page());
        assert_told(&purchase.read().await, 502, "merchant_answer_invalid");
        // After an update whose answer was lost the total is read before a complete.
        let update = json!({"line_items": [{"id": "item_lamp", "quantity": 1}]});
        doubt.shop().behave_once(CallKind::Update, Behaviour::After(Canned::status(500)));
        assert_eq!(agent.post(purchase.path(""), &update).send().await.unwrap().status, 500);
        doubt.shop().behave_once(CallKind::Read, page());
        assert_told(&purchase.complete().await, 502, "merchant_answer_invalid");
        assert_eq!(purchase.completes().len(), 0, "{status}: nothing was begun");
        assert_eq!(purchase.token_status().await, "active");
        assert_completed(&purchase.complete().await);
        purchase.assert_charged_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_before_the_merchants_json_is_read_past() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let shown = purchase.read().await;
    let mut marked = Canned::status(200);
    marked.body = format!("\u{feff}{}", shown.text("/id").map(|_| shown.json()).unwrap());
    doubt.shop().behave_once(CallKind::Read, Behaviour::Instead(marked));
    let read = purchase.read().await;
    assert_eq!((read.status.as_u16(), read.text("/id")), (200, Some(purchase.session.clone())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misdirected_complete_is_in_doubt_at_a_merchant_that_ignores_keys() {
    let doubt = Doubt::keyless().await;
    let purchase = doubt.purchase().await;
    doubt.shop().behave_once(CallKind::Complete, Behaviour::After(Canned::html(421)));
    assert_told(&purchase.complete().await, 502, "merchant_answer_invalid");
    purchase.assert_held().await;
    assert_completed(&purchase.complete().await);
    assert_eq!(purchase.completes().len(), 1, "the session was read, and nothing sent again");
    purchase.assert_charged_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_how_a_merchant_refuses_the_gateway_itself() {
    let doubt = Doubt::start().await;
    let purchase = doubt.purchase().await;
    let mut refused = Canned::status(401);
    refused.body = r#"{"type":"invalid_request","code":"signature_invalid","message":"no"}"#.to_owned();
    doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(refused));
    assert_told(&purchase.complete().await, 502, "processing_error");
    doubt.until_logged(&[r#""merchant_status":401"#, r#""merchant_code":"signature_invalid""#]).await;
    let mut card = Canned::status(403);
    card.body = format!(r#"{{"code":"{GOOD_CARD}","message":"no"}}"#);
    doubt.shop().behave_once(CallKind::Complete, Behaviour::Instead(card));
    assert_told(&purchase.complete().await, 502, "processing_error");
    doubt.until_logged(&[r#""merchant_status":403"#]).await;
    assert!(!doubt.world.log.text().contains(GOOD_CARD));
    doubt.shop().behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert_told(&purchase.complete().await, 502, "merchant_answer_lost");
    doubt.until_logged(&[r#""decision":"merchant_answer_lost""#, r#""cause":"reset""#]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_and_the_workers_read_answered_with_another_session_end_their_connections_and_are_alarmed()
{
    for http1_shops in [false, true] {
        let options =
            Options { keyless_shops: true, careless_shops: true, http1_shops, ..Options::default() };
        let doubt = Doubt::with(options).await;
        let purchase = doubt.purchase().await;
        let alarms = || {
            let log = doubt.world.log.text();
            log.lines().filter(|line| line.contains(r#""event":"answer_of_another_session""#)).count()
        };
        let ended = async |connection: u64| {
            doubt.until("the connection's end", async || !doubt.shop().is_connected(connection)).await;
        };
        doubt.shop().behave_once(CallKind::Complete, Behaviour::Changed(Change::OtherSession));
        assert_told(&purchase.complete().await, 502, "merchant_answer_invalid");
        doubt.until("the alarm", async || alarms() == 1).await;
        ended(purchase.completes()[0].connection).await;
        purchase.assert_held().await;
        doubt.shop().behave_once(CallKind::Read, Behaviour::Changed(Change::OtherSession));
        doubt.clock.advance(Duration::from_secs(6));
        received(doubt.shop(), CallKind::Read, 1).await;
        doubt.until("the second alarm", async || alarms() == 2).await;
        let reads = purchase.calls().into_iter().find(|call| call.kind == CallKind::Read);
        ended(reads.unwrap().connection).await;
        doubt.until_logged(&[r#""event":"session_unread""#, r#""cause":"misplaced""#]).await;
        purchase.assert_held().await;
        doubt.clock.advance(BETWEEN_READS);
        assert_completed(&purchase.complete().await);
        purchase.assert_charged_once().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_merchant_itself_says_that_there_is_no_such_session_to_adopt() {
    let merchant = "adopting_agents = [\"alpha\"]".to_owned();
    let doubt = Doubt::with(Options { merchant, ..Options::default() }).await;
    let agent = doubt.world.alpha();
    let path = "/m/lamps/checkout_sessions/cs_elsewhere";
    for (behaviour, status, code) in [
        (Behaviour::Instead(Canned::html(404)), 502, "merchant_answer_invalid"),
        (Behaviour::Instead(Canned::status(500)), 502, "merchant_answer_invalid"),
        (Behaviour::ResetBefore, 502, "merchant_answer_lost"),
        (Behaviour::Good, 404, "checkout_session_not_found"),
    ] {
        doubt.shop().behave(CallKind::Read, behaviour);
        assert_told(&agent.get(path).send().await.unwrap(), status, code);
        assert_told(&agent.post(path, &lamp_order()).send().await.unwrap(), status, code);
        let complete = agent.post(format!("{path}/complete"), &payment("vt_none")).send().await.unwrap();
        assert_told(&complete, status, code);
    }
}
