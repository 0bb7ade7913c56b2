//! Redeem: the only way a card leaves, for the claim that holds its token, once.

use countersign::quickstart::shop::Behaviour;

use super::*;

/// A complete that the shop holds, and what a redeem for it says.
struct Held {
    waiting: JoinHandle<Answer>,
    asked: Redeem,
}

async fn held(world: &World, agent: &Agent) -> Held {
    let (session, total, token) = ready(agent, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(world, agent, complete_call(agent, &session, &token, "k")).await;
    let asked = Redeem { token, claim, session, amount: total, currency: "usd".to_owned() };
    Held { waiting, asked }
}

impl Held {
    async fn settle(self, world: &World) -> Answer {
        world.lamps.release();
        self.waiting.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_comes_out_whole_for_the_claim_that_holds_its_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["payment_method"]["cryptogram"] = json!("AgAAAAAAAIR8CQrXcIhbQAAAAAA=");
    request["payment_method"]["checks_performed"] = json!(["avs", "cvv"]);
    request["payment_method"]["metadata"] = json!({"issuing_bank": "temp"});
    request["billing_address"] = json!({
        "name": "Ada Lovelace", "line_one": "1 Main St", "line_two": "", "city": "Springfield", "state": "IL",
        "country": "US", "postal_code": "62701"
    });
    let token = ask(&alpha, alpha.post(MINT, &request)).await.text("/id").unwrap();
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem { token, claim, session, amount: total, currency: "usd".to_owned() };
    let card = redeem(&world, &asked).await;
    assert_eq!(card.status, 200, "{}", card.json());
    assert_eq!(card.header("cache-control"), Some("no-store"));
    assert_eq!(card.json()["payment_method"], request["payment_method"]);
    assert_eq!(card.json()["billing_address"], request["billing_address"]);
    world.lamps.release();
    assert_eq!(waiting.await.unwrap().text("/status").as_deref(), Some("completed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeem_is_repeated_for_a_minute_and_not_after_the_settle() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let held = held(&world, &alpha).await;
    let first = redeem(&world, &held.asked).await;
    assert_eq!(first.text("/payment_method/number").as_deref(), Some(GOOD_CARD), "{}", first.json());
    clock.advance(Duration::from_millis(59_999));
    let again = redeem(&world, &held.asked).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    clock.advance(Duration::from_millis(1));
    assert_eq!(told(&redeem(&world, &held.asked).await), refusal(410, "already_redeemed"));
    // The shop asks in vain too, and declines.
    let asked = held.asked.clone();
    held.settle(&world).await;
    assert_eq!(told(&redeem(&world, &asked).await), refusal(409, "claim_unknown"), "the claim has ended");

    let held = self::held(&world, &alpha).await;
    assert_eq!(redeem(&world, &held.asked).await.status, 200);
    let asked = held.asked.clone();
    assert_eq!(held.settle(&world).await.text("/status").as_deref(), Some("completed"));
    assert_eq!(told(&redeem(&world, &asked).await), refusal(410, "already_redeemed"), "it is settled");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_redeemed_than_was_checked_nor_in_another_currency() {
    let world = World::start().await;
    let alpha = world.alpha();
    let held = held(&world, &alpha).await;
    let total = held.asked.amount;
    let ask = async |change: &dyn Fn(&mut Redeem)| {
        let mut asked = held.asked.clone();
        change(&mut asked);
        told(&redeem(&world, &asked).await)
    };
    assert_eq!(ask(&|asked| asked.amount = total + 1).await, refusal(422, "amount_exceeds_claim"));
    assert_eq!(ask(&|asked| asked.currency = "eur".into()).await, refusal(422, "currency_mismatch"));
    assert_eq!(ask(&|asked| asked.claim = "another".into()).await, refusal(409, "claim_unknown"));
    assert_eq!(ask(&|asked| asked.session = "cs_other".into()).await, refusal(409, "claim_unknown"));
    assert_eq!(ask(&|asked| asked.claim = "not an id".into()).await, refusal(400, "invalid_body"));
    let unknown = format!("{}0000", &held.asked.token[..held.asked.token.len() - 4]);
    assert_eq!(ask(&|asked| asked.token = unknown.clone()).await, refusal(404, "not_found"));
    assert!(world.lamps.not_redeemed().is_empty(), "the shop itself has not asked yet");
    // None of it has used the claim up, and less than was checked is fine.
    assert_eq!(ask(&|asked| asked.amount = total - 1).await.0, 200);
    assert_eq!(held.settle(&world).await.text("/status").as_deref(), Some("completed"));
    assert_eq!(charges_of(&world.lamps, &world.lamps.charges()[0].session).len(), 1);
}

/// A shop that wants more than the total gets no card, and so no money.
#[tokio::test(flavor = "multi_thread")]
async fn a_greedy_shop_gets_no_card() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::RedeemMore(1));
    let answer = pay(&alpha, &session, &token).await;
    assert_eq!(answer.text("/status").as_deref(), Some("ready_for_payment"), "{}", answer.json());
    assert_eq!(world.lamps.not_redeemed()[0].code.as_deref(), Some("amount_exceeds_claim"));
    assert_eq!(issued(&alpha, &token).await["exposed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_complete_under_way_no_card_leaves() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, GOOD_CARD).await;
    let asked =
        Redeem { token: token.clone(), claim: "c".into(), session, amount: total, currency: "usd".into() };
    assert_eq!(told(&redeem(&world, &asked).await), refusal(409, "claim_unknown"), "active");
    revoke(&alpha, &token).await;
    assert_eq!(told(&redeem(&world, &asked).await), refusal(409, "claim_unknown"), "withdrawn");

    // At its expiry the card stays, though the complete goes on and the card was out before.
    let held = held(&world, &alpha).await;
    assert_eq!(redeem(&world, &held.asked).await.status, 200);
    let until = issued(&alpha, &held.asked.token).await["expires_at"].as_str().unwrap().to_owned();
    let until = Timestamp::parse_rfc3339(&until).unwrap();
    // So near that a repeat would still be within its minute.
    clock.set(until.minus(Duration::from_secs(1)));
    assert_eq!(told(&redeem(&world, &held.asked).await), refusal(410, "already_redeemed"));
    clock.set(until);
    assert_eq!(told(&redeem(&world, &held.asked).await), refusal(409, "token_expired"));
    held.settle(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_redeem_stops_at_the_expiry_too() {
    let (world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    let until = clock.now().plus(Duration::from_secs(30));
    request["allowance"]["expires_at"] = json!(until.to_rfc3339());
    let token = ask(&alpha, alpha.post(MINT, &request)).await.text("/id").unwrap();
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem { token, claim, session, amount: total, currency: "usd".into() };
    assert_eq!(redeem(&world, &asked).await.status, 200);
    clock.set(until.minus(Duration::from_millis(1)));
    assert_eq!(redeem(&world, &asked).await.status, 200);
    clock.set(until);
    assert_eq!(told(&redeem(&world, &asked).await), refusal(409, "token_expired"));
    world.lamps.release();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_merchant_redeems_nothing() {
    let world = World::start().await;
    let alpha = world.alpha();
    let held = held(&world, &alpha).await;
    let foreign = world.books.redeem(&held.asked).await.unwrap().unwrap();
    assert_eq!(told(&foreign), refusal(404, "not_found"));
    assert_eq!(issued(&alpha, &held.asked.token).await["exposed"], false);
    assert_eq!(held.settle(&world).await.text("/status").as_deref(), Some("completed"));
}

/// A stolen bearer is worth nothing elsewhere.
/// It is read before its sender has proven who it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_redeems_body_has_four_kibibytes() {
    let world = World::start().await;
    let alpha = world.alpha();
    let held = held(&world, &alpha).await;
    let long = |bytes| Redeem { currency: "u".repeat(bytes), ..held.asked.clone() };
    assert_eq!(told(&redeem(&world, &long(4096)).await), refusal(413, "body_too_large"));
    assert_ne!(redeem(&world, &long(3000)).await.status, 413);
    assert_eq!(redeem(&world, &held.asked).await.status, 200);
    held.settle(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeemers_bearer_counts_only_from_its_own_network() {
    let mut world = World::closed(Options::default()).await;
    world.text = world.text.replace("127.0.0.0/8", "10.1.0.0/16");
    world.open().await;
    let alpha = world.alpha();
    let held = held(&world, &alpha).await;
    assert_eq!(told(&redeem(&world, &held.asked).await), refusal(401, "redeemer_not_proven"));
    assert_eq!(issued(&alpha, &held.asked.token).await["exposed"], false);
    let declined = held.settle(&world).await;
    assert_eq!(declined.text("/status").as_deref(), Some("ready_for_payment"), "{}", declined.json());
    assert!(world.lamps.charges().is_empty());
}
