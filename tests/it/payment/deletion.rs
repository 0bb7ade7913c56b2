//! A sealed card is deleted with the last use it can have; what the token was is still told.

use std::sync::Arc;

use countersign::config::Config;
use countersign::domain::clock::KeptClock;
use countersign::domain::token::Instrument;
use countersign::quickstart::shop::Behaviour;
use countersign::records::Kind;
use countersign::records::codec::decode;
use countersign::storage;
use countersign::token::PaymentToken;

use super::*;

/// The tokens in the closed gateway's store whose card is still there.
async fn with_a_card(world: &mut World) -> Vec<String> {
    world.close().await;
    let config = Config::parse(&world.text, world.directory.path());
    let config = config.map_err(|errors| errors.to_string()).unwrap();
    let clock = Arc::new(KeptClock::new(Arc::clone(&world.clock)));
    let opened = storage::open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys)
        .await
        .unwrap();
    let mut found = Vec::new();
    for (_, record) in opened.records.scan(Kind::Token, None, 1_000).await.unwrap() {
        let token: PaymentToken = decode(&record.bytes).unwrap();
        if matches!(token.instrument, Instrument::Sealed { .. }) {
            found.push(token.id.as_str().to_owned());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_of_a_token_that_has_ended_is_deleted_and_that_of_one_that_may_be_spent_is_not() {
    let mut world = World::start().await;
    let alpha = world.alpha();
    let (paid, _, consumed) = ready(&alpha, GOOD_CARD).await;
    assert_eq!(pay(&alpha, &paid, &consumed).await.text("/status").as_deref(), Some("completed"));
    let (_, _, revoked) = ready(&alpha, GOOD_CARD).await;
    assert_eq!(revoke(&alpha, &revoked).await.status, 200);
    let (session, _, worn_out) = ready(&alpha, GOOD_CARD).await;
    for _ in 0..3 {
        world.lamps.behave_once(CallKind::Complete, Behaviour::DeclineUnseen);
        pay(&alpha, &session, &worn_out).await;
    }
    let (_, _, active) = ready(&alpha, GOOD_CARD).await;
    // What the token was is still told.
    for (token, status) in [(&consumed, "consumed"), (&revoked, "revoked"), (&worn_out, "revoked")] {
        assert_eq!(issued(&alpha, token).await["status"], status);
    }
    assert_eq!(with_a_card(&mut world).await, [active]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoke_asked_for_while_a_claim_is_open_deletes_the_card_when_the_claim_ends() {
    let mut world = World::start().await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, _) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    revoke(&alpha, &token).await;
    world.lamps.release();
    waiting.await.unwrap();
    assert_eq!(issued(&alpha, &token).await["status"], "revoked");
    assert_eq!(with_a_card(&mut world).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_its_merchant_keeps_is_deleted_when_the_claim_ends_and_the_token_stays_active() {
    for (merchant, is_kept_here) in [("", false), ("redeem_every_claim = true", true)] {
        let mut world = World::with(Options { merchant: merchant.to_owned(), ..Options::default() }).await;
        let alpha = world.alpha();
        let (session, _, token) = ready(&alpha, DECLINED_CARD).await;
        let declined = pay(&alpha, &session, &token).await;
        assert_eq!(declined.text("/messages/0/code").as_deref(), Some("payment_declined"));
        let view = issued(&alpha, &token).await;
        assert_eq!((&view["status"], &view["exposed"]), (&json!("active"), &json!(true)));
        let expected = if is_kept_here { vec![token] } else { vec![] };
        assert_eq!(with_a_card(&mut world).await, expected, "{merchant:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_was_deleted_stays_deleted_though_the_merchant_is_now_given_it_every_claim() {
    let mut world = World::start().await;
    let alpha = world.alpha();
    let (session, total, token) = ready(&alpha, DECLINED_CARD).await;
    pay(&alpha, &session, &token).await;
    world.close().await;
    world.text = world.text.replacen("[[merchants]]", "[[merchants]]\nredeem_every_claim = true", 1);
    world.open().await;
    let alpha = world.alpha();
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(&world, &alpha, complete_call(&alpha, &session, &token, "k")).await;
    let asked = Redeem {
        token: token.clone(),
        claim,
        session: session.clone(),
        amount: total,
        currency: "usd".into(),
    };
    assert_eq!(told(&redeem(&world, &asked).await), refusal(410, "already_redeemed"));
    world.lamps.release();
    waiting.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_card_of_a_token_that_has_expired_is_deleted_once_that_is_certain() {
    let (mut world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let (_, _, token) = ready(&alpha, GOOD_CARD).await;
    clock.advance(8 * 24 * HOUR);
    let scanned = r#"countersign_tokens{state="expired"} 1"#;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        while !world.app().metrics_text().contains(scanned) {
            assert!(std::time::Instant::now() < deadline, "no scan");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Within the minute between two scans.
        if with_a_card(&mut world).await.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the card is still there");
        world.open().await;
        clock.advance(Duration::from_secs(120));
    }
    world.open().await;
    assert_eq!(issued(&world.alpha(), &token).await["status"], "expired");
}
