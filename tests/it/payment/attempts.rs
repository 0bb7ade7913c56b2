//! A token that was tried and did not pay: how often it may be, and what the merchant keeps. And
//! completes without any token: purchase orders.

use countersign::quickstart::shop::{Behaviour, Canned};

use super::*;

/// The claim of the latest complete.
fn last_claim(world: &World) -> String {
    world.lamps.calls_of(CallKind::Complete).pop().unwrap().idempotency_key.unwrap()
}

fn completes(world: &World) -> usize {
    world.lamps.calls_of(CallKind::Complete).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_attempts_wear_a_token_out() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, DECLINED_CARD).await;
    for left in [2, 1, 0] {
        let declined = pay(&alpha, &session, &token).await;
        assert_eq!(declined.text("/messages/0/code").as_deref(), Some("payment_declined"));
        let view = issued(&alpha, &token).await;
        assert_eq!((&view["attempts_remaining"], &view["exposed"]), (&json!(left), &json!(true)));
    }
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(422, "token_attempts_exceeded"));
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["status"], &view["reason"]), (&json!("revoked"), &json!("attempts_exceeded")));
    // The session takes another card.
    let other = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(pay(&alpha, &session, &other).await.text("/status").as_deref(), Some("completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_merchant_answered_is_an_attempt() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    for status in [429, 425, 429, 403] {
        world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(status)));
        pay(&alpha, &session, &token).await;
        assert_eq!(issued(&alpha, &token).await["attempts_remaining"], 3, "after {status}");
    }
    world.lamps.behave_once(CallKind::Complete, Behaviour::DeclineUnseen);
    pay(&alpha, &session, &token).await;
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["attempts_remaining"], &view["exposed"]), (&json!(2), &json!(false)));
    assert_eq!(pay(&alpha, &session, &token).await.text("/status").as_deref(), Some("completed"));
}

/// Nor is its total taken for what it was: it is read anew before the next complete.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_as_it_is_costs_no_attempt_at_the_card_and_ends_after_twenty() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let refuse = async |token: &str, round: u16| {
        let status = if round.is_multiple_of(2) { 409 } else { 422 };
        world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(status)));
        let reads = world.lamps.calls_of(CallKind::Read).len();
        assert_eq!(told(&pay(&alpha, &session, token).await), refusal(status, "told_to"), "{round}");
        world.lamps.calls_of(CallKind::Read).len() - reads
    };
    for round in 0..20 {
        let view = issued(&alpha, &token).await;
        let left = 3.min(20 - round);
        assert_eq!(
            (&view["status"], &view["attempts_remaining"]),
            (&json!("active"), &json!(left)),
            "{round}"
        );
        assert_eq!(refuse(&token, round).await, usize::from(round > 0), "{round}");
    }
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["status"], &view["reason"]), (&json!("revoked"), &json!("attempts_exceeded")));
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(422, "token_attempts_exceeded"));

    // Another token has as many; then the session has none.
    let other = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    for round in 0..20 {
        refuse(&other, round).await;
    }
    let third = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let spent = completes(&world);
    let refused = pay(&alpha, &session, &third).await;
    assert_eq!(told(&refused), refusal(422, "checkout_session_attempts_exceeded"));
    assert_eq!((completes(&world), spent), (40, 40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_names_a_decline_or_comes_once_the_card_is_out_is_an_attempt() {
    let world = World::start().await;
    let alpha = world.alpha();
    for code in ["payment_declined", "card_declined"] {
        let (session, _, token) = ready(&alpha, GOOD_CARD).await;
        let body = json!({"error": {"type": "invalid_request", "code": code, "message": "no"}});
        world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(422, body.to_string())));
        assert_eq!(pay(&alpha, &session, &token).await.status, 422);
        assert_eq!(issued(&alpha, &token).await["attempts_remaining"], 2, "{code}");
    }
    let (session, _, token) = ready(&alpha, DECLINED_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::After(Canned::status(409)));
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(409, "told_to"));
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["attempts_remaining"], &view["exposed"]), (&json!(2), &json!(true)));
}

/// An address that comes with the complete is the merchant's to apply, or to refuse.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_changes_the_price_frees_the_token_and_the_new_total_is_what_counts() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let mut body = payment(&token);
    body["fulfillment_details"] = json!({"address": {"name": "Ada", "line_one": "2 Far St", "city": "Juneau",
        "state": "AK", "country": "US", "postal_code": "99801"}});
    for (status, code) in [(409, "fulfillment_price_changed"), (422, "fulfillment_unavailable")] {
        let answer =
            json!({"error": {"type": "price_changed", "code": code, "message": "It costs more there."}});
        world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(status, answer.to_string())));
        let refused = ask(&alpha, alpha.post(&path, &body)).await;
        assert_eq!(told(&refused), refusal(status, code), "{}", refused.json());
        let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
        assert_eq!((call.distrust, call.body), (None, body.to_string().into()), "as the agent sent it");
        let view = issued(&alpha, &token).await;
        assert_eq!((&view["status"], &view["attempts_remaining"]), (&json!("active"), &json!(3)));
    }
    // More than the token covers: the merchant hears of no complete.
    let mut dearer = shown_session(&session);
    dearer["totals"][0]["amount"] = json!(total + 1);
    world.lamps.behave_once(CallKind::Read, Behaviour::Instead(canned(200, dearer.to_string())));
    let refused = ask(&alpha, alpha.post(&path, &body)).await;
    assert_eq!(told(&refused), refusal(422, "amount_exceeds_allowance"));
    assert_eq!(completes(&world), 2);
    // A token for what it costs now completes.
    let enough = mint(&alpha, "lamps", &session, GOOD_CARD, total + 1).await;
    let update = format!("/m/lamps/checkout_sessions/{session}");
    assert_eq!(ask(&alpha, alpha.post(update, &json!({}))).await.status, 200);
    assert_eq!(pay(&alpha, &session, &enough).await.text("/status").as_deref(), Some("completed"));
}

/// The merchant keeps the card of a session whose buyer tries again: it is not given it anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_exposed_card_is_not_handed_out_again() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, SECURE_CARD).await;
    let asked = pay(&alpha, &session, &token).await;
    assert_eq!(asked.text("/status").as_deref(), Some("authentication_required"), "{}", asked.json());
    let earlier = last_claim(&world);

    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let mut body = payment(&token);
    body["authentication_result"] = json!({"outcome": "authenticated"});
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let call = alpha.post(path, &body).prepare().unwrap();
    let (waiting, claim) = under_way(&world, &alpha, call).await;
    assert_ne!(claim, earlier);
    let redeeming = |claim: &str| Redeem {
        token: token.clone(),
        claim: claim.to_owned(),
        session: session.clone(),
        amount: total,
        currency: "usd".into(),
    };
    assert_eq!(told(&redeem(&world, &redeeming(&claim)).await), refusal(410, "already_redeemed"));
    assert_eq!(told(&redeem(&world, &redeeming(&earlier)).await), refusal(409, "claim_unknown"));
    world.lamps.release();
    let paid = waiting.await.unwrap();
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
}

/// For a merchant that keeps no card there is a setting; but the CVC is out once.
#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_that_keeps_no_card_gets_it_once_a_claim_without_the_cvc() {
    let merchant = "redeem_every_claim = true".to_owned();
    let world = World::with(Options { merchant, ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, DECLINED_CARD).await;
    let mut cards = Vec::new();
    for key in ["first", "second"] {
        world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
        let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, key)).await;
        let asked = Redeem {
            token: token.clone(),
            claim,
            session: session.clone(),
            amount: total,
            currency: "usd".into(),
        };
        cards.push(redeem(&world, &asked).await);
        world.lamps.release();
        waiting.await.unwrap();
    }
    for card in &cards {
        assert_eq!(card.text("/payment_method/number").as_deref(), Some(DECLINED_CARD), "{}", card.json());
    }
    assert_eq!(cards[0].text("/payment_method/cvc").as_deref(), Some("737"));
    assert_eq!(cards[1].json().pointer("/payment_method/cvc"), None);
}

fn purchase_order() -> Value {
    json!({"payment_data": {"purchase_order_number": "PO-1", "payment_terms": "net_30"}})
}

/// What a shop that takes purchase orders answers; the sample shop takes none.
fn approved_later(session: &str) -> Behaviour {
    let body = json!({"id": session, "status": "pending_approval", "currency": "usd", "line_items": [], "totals": []});
    let mut canned = Canned::status(200);
    canned.body = body.to_string();
    Behaviour::Instead(canned)
}

#[tokio::test(flavor = "multi_thread")]
async fn purchase_orders_are_refused_unless_allowed() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _) = session(&alpha).await;
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let refused = ask(&alpha, alpha.post(path, &purchase_order())).await;
    assert_eq!(told(&refused), refusal(403, "purchase_order_not_allowed"));
    assert!(world.lamps.calls_of(CallKind::Complete).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn purchase_orders_pass_for_the_agents_and_up_to_the_amount_allowed() {
    // A lamp with tax and standard shipping costs 9032.
    let allowed = |limit: &str| {
        let merchant = format!("[merchants.purchase_orders]\nagents = [\"alpha\"]\nlimits = [{limit}]");
        World::with(Options { merchant, ..Options::default() })
    };
    let order = async |world: &World, agent: &Agent| {
        let (session, total) = session(agent).await;
        assert_eq!(total, 9_032);
        world.lamps.behave_once(CallKind::Complete, approved_later(&session));
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");
        ask(agent, agent.post(path, &purchase_order())).await
    };
    let world = allowed("{ amount = 9032, currency = \"usd\" }").await;
    let pending = order(&world, &world.alpha()).await;
    assert_eq!(pending.text("/status").as_deref(), Some("pending_approval"), "{}", pending.json());
    let call = world.lamps.calls_of(CallKind::Complete).pop().unwrap();
    let context = call.headers["countersign-context"].to_str().unwrap();
    assert!(context.contains("amount=9032") && !context.contains("token"), "{context}");
    assert!(!call.headers.contains_key("countersign-grant"), "no allowance stands behind it");
    let refused = order(&world, &world.beta()).await;
    assert_eq!(told(&refused), refusal(403, "purchase_order_not_allowed"), "another agent");
    assert_eq!(world.lamps.calls_of(CallKind::Complete).len(), 1);

    let world = allowed("{ amount = 9031, currency = \"usd\" }").await;
    let refused = order(&world, &world.alpha()).await;
    assert_eq!(told(&refused), refusal(422, "amount_exceeds_allowance"));
    let world = allowed("{ amount = 100000, currency = \"eur\" }").await;
    let refused = order(&world, &world.alpha()).await;
    assert_eq!(told(&refused), refusal(403, "purchase_order_not_allowed"), "another currency");
}
