//! What a token may be spent on.
//!
//! One session, one merchant, one agent, one currency, up to its cap, before its expiry, once.

use countersign::quickstart::agent::Agent;
use countersign::quickstart::shop::{Behaviour, CallKind, Canned, HESITANT_CARD};
use serde_json::json;

use super::*;

/// How often the first shop was asked to complete.
fn completes(world: &World) -> usize {
    world.lamps.calls_of(CallKind::Complete).len()
}

async fn mint_until(agent: &Agent, session: &str, total: u64, until: Timestamp) -> String {
    let mut request = mint_request(GOOD_CARD, "lamps", session, total);
    request["allowance"]["expires_at"] = json!(until.to_rfc3339());
    let answer = ask(agent, agent.post(MINT, &request)).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    answer.text("/id").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_at_its_expiry_a_token_is_worth_nothing() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let until = clock.now().plus(HOUR);
    let mut ready = Vec::new();
    for _ in 0..2 {
        let (session, total) = session(&alpha).await;
        let token = mint_until(&alpha, &session, total, until).await;
        ready.push((session, token));
    }
    clock.set(until.minus(Duration::from_millis(1)));
    let in_time = pay(&alpha, &ready[0].0, &ready[0].1).await;
    assert_eq!(in_time.text("/status").as_deref(), Some("completed"), "{}", in_time.json());
    clock.set(until);
    let late = pay(&alpha, &ready[1].0, &ready[1].1).await;
    assert_eq!(told(&late), refusal(422, "token_expired"));
    assert_eq!(completes(&world), 1);
    // Nor can one be made for the past.
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["allowance"]["expires_at"] = json!(until.to_rfc3339());
    let answer = ask(&alpha, alpha.post(MINT, &request)).await;
    assert_eq!(answer.text("/param").as_deref(), Some("$.allowance.expires_at"), "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_cap_itself_passes_and_one_less_is_denied_before_the_merchant_hears_of_it() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let short = mint(&alpha, "lamps", &session, GOOD_CARD, total - 1).await;
    assert_eq!(told(&pay(&alpha, &session, &short).await), refusal(422, "amount_exceeds_allowance"));
    assert_eq!(completes(&world), 0);
    let exact = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let paid = pay(&alpha, &session, &exact).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    assert_eq!(charges_of(&world.lamps, &session)[0].amount, total);
    assert_eq!(issued(&alpha, &short).await["status"], "active", "a denial uses nothing up");
}

/// The merchant's own total counts, not one from before an update.
#[tokio::test(flavor = "multi_thread")]
async fn p10_an_update_that_costs_more_outgrows_the_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let express = json!({"selected_fulfillment_options": [{"type": "shipping", "option_id": "ship_express", "item_ids": ["item_lamp"]}]});
    let path = format!("/m/lamps/checkout_sessions/{session}");
    assert_eq!(ask(&alpha, alpha.post(&path, &express)).await.status, 200);
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(422, "amount_exceeds_allowance"));
    // An update whose answer was lost leaves no total: the merchant is asked.
    let standard = json!({"selected_fulfillment_options": [{"type": "shipping", "option_id": "ship_standard", "item_ids": ["item_lamp"]}]});
    world.lamps.behave_once(CallKind::Update, Behaviour::After(Canned::status(500)));
    assert_eq!(ask(&alpha, alpha.post(&path, &standard)).await.status, 500);
    let reads = world.lamps.calls_of(CallKind::Read).len();
    let paid = pay(&alpha, &session, &token).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    assert_eq!(world.lamps.calls_of(CallKind::Read).len(), reads + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_token_is_for_one_session_merchant_agent_and_currency() {
    let world = World::start().await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (mine, total, token) = ready(&alpha, GOOD_CARD).await;
    let (another, _) = session(&alpha).await;
    assert_eq!(told(&pay(&alpha, &another, &token).await), refusal(422, "token_unknown"));
    let (elsewhere, _) = create(&alpha, "books").await;
    let at_books = complete(&alpha, "books", &elsewhere, &token).await;
    assert_eq!(told(&at_books), refusal(422, "token_unknown"));
    let (theirs, _) = session(&beta).await;
    assert_eq!(told(&pay(&beta, &theirs, &token).await), refusal(422, "token_unknown"));
    // To another agent the session does not exist, whatever token it shows.
    assert_eq!(told(&pay(&beta, &mine, &token).await), refusal(404, "checkout_session_not_found"));

    let mut request = mint_request(GOOD_CARD, "lamps", &mine, total);
    request["allowance"]["currency"] = json!("eur");
    let euros = ask(&alpha, alpha.post(MINT, &request)).await.text("/id").unwrap();
    assert_eq!(told(&pay(&alpha, &mine, &euros).await), refusal(422, "currency_mismatch"));

    assert_eq!(completes(&world) + world.books.calls_of(CallKind::Complete).len(), 0);
    assert_eq!(pay(&alpha, &mine, &token).await.status, 200, "it is as good as ever for what it is for");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_token_pays_once() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let spare = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    assert_eq!(pay(&alpha, &session, &token).await.status, 200);
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(409, "checkout_session_completed"));
    // Nor does the session take another token.
    assert_eq!(told(&pay(&alpha, &session, &spare).await), refusal(409, "checkout_session_completed"));
    assert_eq!((completes(&world), world.lamps.charges().len()), (1, 1));
}

/// A card that is declined, then needs 3-D Secure, then pays: one token all the way.
#[tokio::test(flavor = "multi_thread")]
async fn p12_a_token_survives_a_decline_and_authentication() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, HESITANT_CARD).await;
    let declined = pay(&alpha, &session, &token).await;
    assert_eq!(declined.text("/status").as_deref(), Some("ready_for_payment"), "{}", declined.json());
    assert_eq!(declined.text("/messages/0/code").as_deref(), Some("payment_declined"));
    let view = issued(&alpha, &token).await;
    assert_eq!((&view["status"], &view["exposed"]), (&json!("active"), &json!(true)));

    let asked = pay(&alpha, &session, &token).await;
    assert_eq!(asked.text("/status").as_deref(), Some("authentication_required"), "{}", asked.json());
    let mut authenticated = payment(&token);
    authenticated["authentication_result"] = json!({
        "outcome": "authenticated",
        "outcome_details": {
            "three_ds_cryptogram": "AAIBBYNoEwAAACcKhAJkdQAAAAA=", "electronic_commerce_indicator": "05",
            "transaction_id": "t-1", "version": "2.2.0"
        }
    });
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let paid = ask(&alpha, alpha.post(path, &authenticated)).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
    assert_eq!(told(&pay(&alpha, &session, &token).await), refusal(409, "checkout_session_completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn p14_a_token_that_was_not_minted_here_goes_nowhere() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let mut forged = token.clone().into_bytes();
    let last = forged.last_mut().unwrap();
    *last = if *last == b'a' { b'b' } else { b'a' };
    let forged = String::from_utf8(forged).unwrap();
    for unknown in [forged.as_str(), "spt_123", "vt_01J8Z3WXYZ9ABC", "tok_visa", "4242424242424242"] {
        let answer = pay(&alpha, &session, unknown).await;
        assert_eq!(told(&answer), refusal(422, "token_unknown"), "{unknown}");
        assert!(!answer.json().to_string().contains(unknown), "nor is it repeated");
    }
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    for (status, code, body) in [
        (422, "token_required", json!({})),
        (422, "token_required", json!({"payment_data": {"handler_id": "card_tokenized"}})),
        (422, "token_required", json!({"payment_data": null})),
        (400, "invalid_body", json!({"payment_data": {"token": 7}})),
        (400, "invalid_body", json!({"payment_data": {"token": ""}})),
        // Which of two tokens a merchant reads nobody knows.
        (400, "invalid_body", {
            let mut both = payment(&token);
            both["payment_data"]["token"] = json!("spt_123");
            both
        }),
    ] {
        let answer = ask(&alpha, alpha.post(&path, &body)).await;
        assert_eq!(told(&answer), refusal(status, code), "{body}");
    }
    assert_eq!(completes(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_is_judged_by_its_session_before_its_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (paid, _, token) = ready(&alpha, GOOD_CARD).await;
    assert_eq!(pay(&alpha, &paid, &token).await.status, 200);
    let (closed, _, unspent) = ready(&alpha, GOOD_CARD).await;
    let cancel = format!("/m/lamps/checkout_sessions/{closed}/cancel");
    assert_eq!(ask(&alpha, alpha.post(cancel, &json!({}))).await.status, 200);
    let (open, _, _) = ready(&alpha, GOOD_CARD).await;
    let without = json!({"payment_data": {"handler_id": "card_tokenized"}});
    let foreign = payment("spt_of_another_provider");
    let unknown = payment("vt_00000000000000000000000000000000");
    let tokens = [payment(&token), payment(&unspent), foreign.clone(), unknown.clone(), without.clone()];
    let complete = |agent: &Agent, session: &str, body: &Value| {
        let (agent, body) = (agent.clone(), body.clone());
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");
        async move { told(&ask(&agent, agent.post(path, &body)).await) }
    };
    for body in &tokens {
        let answer = complete(&alpha, &paid, body).await;
        assert_eq!(answer, refusal(409, "checkout_session_completed"), "{body}");
        assert_eq!(complete(&alpha, &closed, body).await, refusal(409, "checkout_session_closed"), "{body}");
        for session in [paid.as_str(), open.as_str(), "cs_nobodys"] {
            let answer = complete(&world.beta(), session, body).await;
            assert_eq!(answer, refusal(404, "checkout_session_not_found"), "{session}: {body}");
        }
    }
    // Where the session can be paid, the token decides.
    assert_eq!(complete(&alpha, &open, &foreign).await, refusal(422, "token_unknown"));
    assert_eq!(complete(&alpha, &open, &unknown).await, refusal(422, "token_unknown"));
    assert_eq!(complete(&alpha, &open, &without).await, refusal(422, "token_required"));
    assert_eq!(world.lamps.charges().len(), 1);
}
