//! A store as the release before the present formats left it, with a purchase in doubt.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::domain::clock::{Clock as _, SystemClock, Timestamp};
use countersign::ledger::SessionRecord;
use countersign::quickstart::shop::{Behaviour, CallKind};
use countersign::records::codec::{append_plain, decode, decode_plain};
use countersign::records::{
    Batch, Committed, Durability, Kind, Purpose, Record, RecordKey, RecordStore, Write,
};
use countersign::storage::embedded::EmbeddedStore;
use serde_bytes::ByteBuf;

use super::*;

/// A key that a session's record holds: its scope, its end and its record.
type HeldKey = ([u8; 32], Timestamp, ByteBuf);

/// A store that nobody else has open.
fn open(world: &World) -> EmbeddedStore {
    let settings = countersign::storage::Settings {
        directory: world.directory.path().join("store"),
        epoch_directory: world.directory.path().join("epochs"),
        ..countersign::storage::Settings::default()
    };
    EmbeddedStore::open(&settings, Arc::new(SystemClock), Arc::new(|_| {}), Arc::new(|_| {})).unwrap()
}

async fn all(store: &EmbeddedStore, kind: Kind) -> Vec<(RecordKey, Record)> {
    store.scan(kind, None, 1_000).await.unwrap()
}

fn put(key: RecordKey, bytes: Vec<u8>, expires_at: Option<Timestamp>, due: Option<Timestamp>) -> Write {
    Write::Put { key, bytes: bytes.into(), expires_at, due }
}

/// The records of a session with an open claim as they were when session, token and key each had one:
/// what they are written from, and how many keys the session's record held.
async fn as_it_was(store: &EmbeddedStore) -> (Vec<Write>, usize) {
    let now = SystemClock.now();
    let mut writes = Vec::new();
    let mut held_keys = 0;
    for (key, record) in all(store, Kind::Session).await {
        let SessionRecord { session, .. } = decode(&record.bytes).unwrap();
        let Some(claim) = session.claim.clone() else { continue };
        let mut plain = Vec::new();
        append_plain(&session, &mut plain).unwrap();
        let held: Vec<HeldKey> = decode_plain(&record.bytes[1 + plain.len()..]).unwrap();
        held_keys += held.len();
        for (scope, expires_at, record) in held {
            let name = URL_SAFE_NO_PAD.encode(scope);
            let own = RecordKey::new(Kind::Idempotency, key.partition(), &name);
            writes.push(put(own, record.into_vec(), Some(expires_at), None));
        }
        writes.push(put(key, [&[3][..], &plain].concat(), None, Some(now)));
        for (key, record) in all(store, Kind::Token).await {
            if key.name() != claim.token.as_ref().unwrap().as_str() {
                continue;
            }
            // The state, attempts, whether the card has left and the answers are what a token's record ends with.
            let (rest, [state, attempts, exposed, answered]) = record.bytes.split_last_chunk::<4>().unwrap();
            assert_eq!((record.bytes[0], *state, *answered), (3, 0, 0), "active");
            let id = claim.id.as_str();
            let claimed = [&[1, u8::try_from(id.len()).unwrap()], id.as_bytes()].concat();
            writes.push(put(key, [&[2], &rest[1..], &claimed, &[*attempts, *exposed]].concat(), None, None));
        }
    }
    (writes, held_keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_the_release_before_left_in_doubt_is_finished_once() {
    let mut world = World::closed(Options { store: Some(EMBEDDED.to_owned()), ..Options::default() }).await;
    let mut gateway = Gateway::start(&mut world).await;
    buy(&world).await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldAfter);
    let request = alpha.post(format!("/m/lamps/checkout_sessions/{session}/complete"), &payment(&token));
    let request = request.key("the-key").prepare().unwrap();
    let lost = tokio::spawn(async move { alpha.send(&request).await.is_err() });
    received(&world.lamps, CallKind::Complete, 2).await;
    gateway.kill();
    assert!(lost.await.unwrap());
    world.lamps.release();

    let store = open(&world);
    let (writes, held) = as_it_was(&store).await;
    assert_eq!((writes.len(), held), (3, 1), "session, token and key");
    let batch =
        Batch { expect: Vec::new(), writes, durability: Durability::Synced, purpose: Purpose::Finish };
    assert!(matches!(store.commit(batch).await.unwrap(), Committed::Applied(_)));
    drop(store);
    let checking = ["store", "check", "--config", "{config}"];
    let (whole, out, error) = told(&world.run(&checking).await);
    assert!(whole, "{out}{error}");

    gateway.restart().await;
    let alpha = world.alpha();
    let path = format!("/m/lamps/checkout_sessions/{session}/complete");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let repeated = alpha.post(&path, &payment(&token)).key("the-key").send().await.unwrap();
        if repeated.text("/status").as_deref() == Some("completed") {
            break;
        }
        assert_eq!(repeated.code().as_deref(), Some("outcome_unknown"), "{}", repeated.json());
        assert!(Instant::now() < until, "{}", gateway.log());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!(charges_of(&world.lamps, &session).len(), 1);
    buy(&world).await;
    gateway.kill();
    let (whole, out, error) = told(&world.run(&checking).await);
    assert!(whole && out.contains("tokens claimed"), "{out}{error}");
}
