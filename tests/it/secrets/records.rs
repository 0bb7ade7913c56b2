//! What is kept under idempotency keys, unsealed: answers and requests, but never one with a card.

use std::sync::Arc;

use countersign::config::Config;
use countersign::domain::clock::KeptClock;
use countersign::idempotency::{KeyRecord, KeyState, StoredRequest};
use countersign::quickstart::shop::{Behaviour, CallKind};
use countersign::records::Kind;
use countersign::records::codec::{decode, decode_plain};
use countersign::storage;

use super::drive::Driven;
use super::needles::{CARDS, NETWORK_TOKEN, Needles};

/// Everything sealed in the records of idempotency keys, and how many of them are mints'.
async fn unsealed(driven: &Driven) -> (Vec<Vec<u8>>, usize) {
    let config = Config::parse(&driven.world.text, driven.world.directory.path());
    let config = config.map_err(|errors| errors.to_string()).unwrap();
    let clock = Arc::new(KeptClock::new(Arc::clone(&driven.world.clock)));
    let opened = storage::open_engine(config.store, clock, Arc::new(|_| {}), Arc::new(|_| {}), &config.keys)
        .await
        .unwrap();
    let (mut found, mut mints) = (Vec::new(), 0);
    for (key, record) in opened.records.scan(Kind::Idempotency, None, 10_000).await.unwrap() {
        let record: KeyRecord = decode(&record.bytes).unwrap();
        let associated = |what: &str| [what.as_bytes(), b"/", key.name().as_bytes()].concat();
        let open = |what, sealed| config.keys.sealing.open(&associated(what), sealed).unwrap();
        if let KeyState::Recorded(answer) = &record.state {
            found.push(open("answer", &answer.body).expose().to_vec());
        }
        if let Some(request) = &record.request {
            let request: StoredRequest = decode_plain(open("request", request).expose()).unwrap();
            found.push(request.body.as_bytes().to_vec());
        }
        mints += usize::from(record.token.is_some());
    }
    (found, mints)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_keeps_a_mint_s_body_or_a_redeem_s_answer() {
    let mut driven = Driven::start().await;
    for card in [CARDS[0], NETWORK_TOKEN] {
        let (session, token) = driven.tokened(card).await;
        driven.complete(&session, &token).await;
    }
    // In doubt: the request is kept, to be sent again.
    let (session, token) = driven.tokened(CARDS[1]).await;
    driven.world.lamps.behave_once(CallKind::Complete, Behaviour::ResetAfter);
    assert!(driven.complete(&session, &token).await.status.is_server_error());
    let needles = Needles::of(&driven.world);
    driven.world.close().await;
    let (kept, mints) = unsealed(&driven).await;
    assert_eq!(mints, 3);
    assert!(kept.iter().any(|body| body.windows(token.len()).any(|at| at == token.as_bytes())), "no request");
    let found: Vec<_> = kept.iter().flat_map(|body| needles.find_in("a record", body)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
