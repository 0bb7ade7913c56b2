//! Rotation of the gateway's own keys while tokens live.
//!
//! What was made with an old key goes on, and a key that is still needed cannot be forgotten.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use countersign::app::App;
use countersign::config::Config;
use countersign::crypto::random;
use countersign::crypto::sign::{Algorithm, SigningKey};
use countersign::domain::clock::KeptClock;
use countersign::domain::token::Instrument;
use countersign::quickstart::shop::{Behaviour, Canned};
use countersign::records::Kind;
use countersign::records::codec::decode;
use countersign::storage;
use countersign::token::PaymentToken;

use super::*;

const RINGS: [&str; 5] = ["signing", "sealing", "fingerprint", "card_fingerprint", "derivation"];

/// Adds a second key to every ring and makes it the current one.
fn rotate(world: &mut World) {
    let mut rotated = String::new();
    for ring in RINGS {
        let secret = if ring == "signing" {
            SigningKey::generate(Algorithm::Ed25519).unwrap().1.to_string()
        } else {
            let bytes: [u8; 32] = random::bytes().unwrap();
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let name = format!("{ring}-2.key");
        let path = world.directory.path().join(&name);
        let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        options.unwrap().write_all(secret.as_bytes()).unwrap();
        let entry = format!("[[keys.{ring}]]\nid = \"{ring}-2\"\nsecret = \"file:{name}\"\ncurrent = true\n");
        rotated.push_str(&entry);
    }
    let agents = world.text.find("[[agents]]").unwrap();
    world.text.insert_str(agents, &rotated);
}

/// Takes the first key out of every ring that has two.
fn forget_old(text: &str) -> String {
    let mut kept = text.to_owned();
    for ring in RINGS {
        let start = kept.find(&format!("[[keys.{ring}]]\nid = \"{ring}-1\"")).unwrap();
        let rest = &kept[start + 2..];
        let end = rest.find("[[").map_or(kept.len(), |at| start + 2 + at);
        kept.replace_range(start..end, "");
    }
    kept
}

/// The sealing key of every card in the store of a world that is closed.
async fn sealing_keys(world: &World) -> Vec<String> {
    let config = Config::parse(&world.text, world.directory.path());
    let config = config.map_err(|errors| errors.to_string()).unwrap();
    let clock = Arc::new(KeptClock::new(Arc::clone(&world.clock)));
    let opened = storage::open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys)
        .await
        .unwrap();
    let tokens = opened.records.scan(Kind::Token, None, 1000).await.unwrap();
    let key_of = |bytes: &[u8]| {
        let token: PaymentToken = decode(bytes).unwrap();
        match token.instrument {
            Instrument::Sealed { card, .. } => Some(card.key.to_string()),
            _ => None,
        }
    };
    tokens.iter().filter_map(|(_, record)| key_of(&record.bytes)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_old_tokens_redeem_old_keys_replay_and_cards_are_sealed_anew() {
    let merchant = "[merchants.deadlines]\nfirst_byte = \"2s\"\ntotal = \"2s\"".to_owned();
    let mut world = World::with(Options { merchant, ..Options::default() }).await;
    let alpha = world.alpha();
    let (session, _, token) = ready(&alpha, GOOD_CARD).await;
    let (_, _, unspent) = ready(&alpha, GOOD_CARD).await;
    let (doubtful, _, in_doubt) = ready(&alpha, GOOD_CARD).await;
    let (for_mint, total) = self::session(&alpha).await;
    let request = mint_request(GOOD_CARD, "lamps", &for_mint, total);
    let create = |agent: &Agent, body: &Value| {
        agent.post("/m/lamps/checkout_sessions", body).key("k").prepare().unwrap()
    };
    let created = ask_prepared(&alpha, &create(&alpha, &lamp_order())).await;
    let minted = ask(&alpha, alpha.post(MINT, &request).key("k")).await;
    assert_eq!((created.status.as_u16(), minted.status.as_u16()), (201, 201));
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(Canned::status(500)));
    let call = complete_call(&alpha, &doubtful, &in_doubt, "doubt");
    assert_eq!(ask_prepared(&alpha, &call).await.status, 500);
    let upstream = |world: &World| world.lamps.calls_of(CallKind::Complete).pop().unwrap().idempotency_key;
    let claim = upstream(&world);

    world.close().await;
    assert_eq!(sealing_keys(&world).await, ["sealing-1"; 4]);
    rotate(&mut world);
    world.open().await;
    let alpha = world.alpha();

    let again = ask_prepared(&alpha, &create(&alpha, &lamp_order())).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &created.body));
    let mut other = lamp_order();
    other["line_items"][0]["quantity"] = json!(2);
    let other = ask_prepared(&alpha, &create(&alpha, &other)).await;
    assert_eq!(told(&other), refusal(422, "idempotency_conflict"));
    let again = ask(&alpha, alpha.post(MINT, &request).key("k")).await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &minted.body));
    // A grant signed with the old key, a card sealed with it, a claim derived with it.
    let paid = pay(&alpha, &session, &token).await;
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    // It is sent again once the first sending can no longer be under way.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    let found_out = loop {
        let told = alpha.send(&complete_call(&alpha, &doubtful, &in_doubt, "doubt")).await.unwrap();
        if told.status != 503 || std::time::Instant::now() > until {
            break told;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(found_out.text("/status").as_deref(), Some("completed"), "{}", found_out.json());
    assert_eq!(upstream(&world), claim, "the merchant sees the same request again");
    assert_eq!(world.lamps.charges().len(), 2);
    // And the new keys are in use.
    let (session, _, fresh) = ready(&alpha, GOOD_CARD).await;
    assert_eq!(pay(&alpha, &session, &fresh).await.text("/status").as_deref(), Some("completed"));

    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !world.app().metrics_text().contains("countersign_tokens{") {
        assert!(std::time::Instant::now() < deadline, "no scan");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.close().await;
    // Those of the three that were spent are no more.
    assert_eq!(sealing_keys(&world).await, ["sealing-2"; 2]);
    world.open().await;
    assert_eq!(issued(&world.alpha(), &unspent).await["status"], "active");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_still_needed_cannot_be_left_out() {
    let (mut world, clock) = at_rest(Options::default()).await;
    let (session, _, token) = ready(&world.alpha(), GOOD_CARD).await;
    world.close().await;
    rotate(&mut world);
    let without = forget_old(&world.text);
    let start = async |text: &str| {
        let config =
            Config::parse(text, world.directory.path()).map_err(|errors| errors.to_string()).unwrap();
        let clock: Arc<dyn Clock> = clock.clone();
        App::start_logging_to(config, None, clock, world.log.clone()).await
    };
    let refused = start(&without).await.err().expect("it must not start").to_string();
    for ring in RINGS {
        let line = format!("the store still depends on {ring} key \"{ring}-1\"");
        assert!(refused.contains(&line), "{ring}: {refused}");
    }
    assert!(refused.contains("put it back as a previous key until"), "{refused}");
    // With the keys put back, everything is as it was.
    world.open().await;
    let alpha = world.alpha();
    assert_eq!(pay(&alpha, &session, &token).await.text("/status").as_deref(), Some("completed"));
    world.close().await;
    // When nothing made with them can matter any more, they may go.
    clock.advance(9 * 24 * HOUR);
    world.text = without;
    world.open().await;
    let (session, total) = self::session(&world.alpha()).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["allowance"]["expires_at"] = json!(clock.now().plus(HOUR).to_rfc3339());
    let alpha = world.alpha();
    assert_eq!(ask(&alpha, alpha.post(MINT, &request)).await.status, 201);
}
