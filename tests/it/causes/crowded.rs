//! Merchants that take some requests and no more: what the others are told, through a socket.

use serde_json::json;
use tokio::task::JoinHandle;

use super::servers::Authority;
use super::upstream::{assert_documented, counted, https};
use super::*;

/// A world with one merchant, `held`, that is connected to for half a second and waited for so long.
async fn world_of(url: &str, authority: &Authority, waited: &str) -> World {
    let mut world = World::closed(Options::default()).await;
    std::fs::write(world.directory.path().join("theirs.pem"), authority.pem()).unwrap();
    world.text.push_str(&format!(
        r#"
[[merchants]]
id = "held"
base_url = "{url}"
credential = "file:lamps.credential"
versions = ["2026-04-17"]
idempotency = "keys"
ca_file = "theirs.pem"
allow_private_addresses = true
concurrency = 4000
doubt_grace = "10m"
[merchants.deadlines]
connect = "500ms"
first_byte = "{waited}"
total = "{waited}"
"#
    ));
    world.open().await;
    world
}

/// Asks for a session, with so many bytes of metadata.
fn asking(world: &World, bytes: usize) -> JoinHandle<Answer> {
    let agent = world.alpha();
    let mut order = lamp_order();
    order["metadata"] = json!({ "note": "n".repeat(bytes) });
    tokio::spawn(async move { agent.post("/m/held/checkout_sessions", &order).send().await.unwrap() })
}

async fn assert_not_sent(world: &World, answer: &Answer, status: u16, cause: &str) {
    assert_eq!(answer.status, status, "{cause}: {}", answer.json());
    let line = line_of(world, answer).await;
    assert_eq!(
        (&line["cause"], &line["decision"]),
        (&json!(cause), &json!("merchant_unreachable")),
        "{line}"
    );
    let told = world.log.text().matches(&format!(r#""cause":"{cause}""#)).count();
    assert_eq!(usize::try_from(counted(world, cause)), Ok(told), "{cause}");
    assert_documented(cause);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_connection_that_others_hold_is_told_so() {
    let ours = Authority::new();
    let (address, mut came) = ours.ungreeting().await;
    let world = world_of(&https(address), &ours, "60s").await;
    // How many requests a connection takes is not known before its peer greets: until then it is one.
    let first = asking(&world, 0);
    came.recv().await.unwrap();
    let second = asking(&world, 0).await.unwrap();
    assert_not_sent(&world, &second, 504, "pool_timeout").await;
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchant_whose_streams_are_all_in_use_is_told_as_that() {
    let ours = Authority::new();
    let (address, mut came) = ours.holding(1).await;
    let world = world_of(&https(address), &ours, "60s").await;
    let mut held = Vec::new();
    // As many connections as are opened to a merchant, one request on each.
    for _ in 0..8 {
        held.push(asking(&world, 0));
        came.recv().await.unwrap();
    }
    let refused = asking(&world, 0).await.unwrap();
    assert_not_sent(&world, &refused, 502, "no_stream").await;
    held.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_a_merchant_reads_nothing_of_was_not_sent() {
    let ours = Authority::new();
    let (address, mut came) = ours.stopping().await;
    let world = world_of(&https(address), &ours, "1s").await;
    let mut asked = vec![asking(&world, 0)];
    came.recv().await.unwrap();
    // More than sockets hold: from then on the connection takes nothing.
    asked.extend((0..16).map(|_| asking(&world, 900_000)));
    for answer in asked {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 504, "{}", answer.json());
    }
    let unwritten = asking(&world, 0).await.unwrap();
    assert_not_sent(&world, &unwritten, 504, "write_timeout").await;
}
