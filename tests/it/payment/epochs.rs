//! The key of a CVC dies with the last token of its hour, and the CVC with the key.

use std::path::PathBuf;

use countersign::quickstart::shop::Behaviour;

use super::*;

/// How long the background worker may take; it looks every second.
const PATIENCE: Duration = Duration::from_secs(20);

fn key_files(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.directory.path().join("epochs")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "key")).collect()
}

/// The file of the one key there is of an hour.
pub(super) fn key_file_of(world: &World, instant: Timestamp) -> Option<PathBuf> {
    let prefix = format!("e{}-", instant.unix_seconds() / 3600);
    let is_of_it = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(&prefix);
    let mut files: Vec<PathBuf> = key_files(world).into_iter().filter(is_of_it).collect();
    assert!(files.len() <= 1, "one key an hour: {files:?}");
    files.pop()
}

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what} did not come to be within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Redeems the card of a token in a complete, which is then finished.
pub(super) async fn card_of(world: &World, agent: &Agent, session: &str, total: u64, token: &str) -> Value {
    world.lamps.behave_once(CallKind::Complete, Behaviour::HoldBefore);
    let (waiting, claim) = under_way(world, agent, complete_call(agent, session, token, "k")).await;
    let asked = Redeem {
        token: token.to_owned(),
        claim,
        session: session.to_owned(),
        amount: total,
        currency: "usd".to_owned(),
    };
    let card = redeem(world, &asked).await;
    assert_eq!(card.status, 200, "{}", card.json());
    world.lamps.release();
    let paid = waiting.await.unwrap();
    assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    card.json()
}

/// A token that lives for six hours.
pub(super) async fn lasting(world: &World, clock: &ManualClock) -> (String, u64, String) {
    let alpha = world.alpha();
    let (session, total) = session(&alpha).await;
    let mut request = mint_request(GOOD_CARD, "lamps", &session, total);
    request["allowance"]["expires_at"] = json!(clock.now().plus(6 * HOUR).to_rfc3339());
    let answer = ask(&alpha, alpha.post(MINT, &request)).await;
    assert_eq!(answer.status, 201, "{}", answer.json());
    (session, total, answer.text("/id").unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cvc_outlives_neither_its_token_nor_its_hours_key() {
    let (mut world, clock) = at_rest(Options::default()).await;
    let alpha = world.alpha();
    let (first, total, spent) = lasting(&world, &clock).await;
    let (second, _, kept) = lasting(&world, &clock).await;
    let of_both = key_file_of(&world, clock.now()).unwrap();
    assert_eq!(card_of(&world, &alpha, &first, total, &spent).await["payment_method"]["cvc"], "737");

    // Hours later the key is still needed by a token that may yet be spent.
    clock.advance(2 * HOUR);
    let (third, _, late) = lasting(&world, &clock).await;
    let scanned = r#"countersign_tokens{state="active"} 2"#;
    until("a scan", || world.app().metrics_text().contains(scanned)).await;
    let of_third = key_file_of(&world, clock.now()).unwrap();
    assert!(of_both.exists());
    assert_eq!(card_of(&world, &alpha, &second, total, &kept).await["payment_method"]["cvc"], "737");

    // Nobody needs it any more: it is destroyed; that of the present hour is not.
    clock.advance(Duration::from_secs(120));
    until("the end of the first key", || !of_both.exists()).await;
    assert!(of_third.exists());

    // A store without its epoch keys, as in a backup, gives the card and no CVC. Where replicas share
    // the keys, that one is gone is believed only once its hour is over.
    clock.advance(HOUR + Duration::from_secs(300));
    world.close().await;
    key_files(&world).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    world.open().await;
    let alpha = world.alpha();
    let card = card_of(&world, &alpha, &third, total, &late).await;
    assert_eq!(card["payment_method"]["number"], GOOD_CARD);
    assert_eq!(card["payment_method"].get("cvc"), None, "{}", card["payment_method"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_last_token_has_expired_is_destroyed() {
    let (world, clock) = at_rest(Options::default()).await;
    lasting(&world, &clock).await;
    let key = key_file_of(&world, clock.now()).unwrap();
    clock.advance(8 * HOUR);
    until("the end of the key", || !key.exists()).await;
}
