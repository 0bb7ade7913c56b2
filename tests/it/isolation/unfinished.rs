//! Who has a credential and no key can send bodies and not finish them. What that makes the gateway
//! hold has a bound, and costs neither the agent elsewhere nor anybody else at the same address.

use std::net::Ipv4Addr;
use std::time::Duration;

use countersign::quickstart::agent::Agent;
use tokio::io::AsyncWriteExt;

use super::eventually;
use crate::wire::{Raw, Received, Socket, connect_from, receive};
use crate::world::*;

/// The largest body of this gateway.
const LARGEST: usize = 16 << 10;
/// So many of them are held.
const HELD: usize = 32;
/// A gateway that waits for more of a body says nothing for so long.
const SILENCE: Duration = Duration::from_millis(300);

fn order(agent: &Agent) -> Raw {
    Raw::of(&agent.post("/m/lamps/checkout_sessions", &lamp_order()).prepare().unwrap())
}

/// Sends the largest body but for its last byte.
async fn leave_unfinished(world: &World, agent: &Agent, from: Ipv4Addr) -> Socket {
    let raw = order(agent).set("content-length", LARGEST.to_string());
    let mut socket = connect_from(world, b"http/1.1", from).await;
    socket.write_all(&[raw.head(), vec![b' '; LARGEST - 1]].concat()).await.unwrap();
    socket.flush().await.unwrap();
    socket
}

/// Sends a body in two pieces.
async fn in_pieces(world: &World, agent: &Agent, from: Ipv4Addr) -> Received {
    let raw = order(agent);
    let (first, rest) = raw.body.split_at(raw.body.len() / 2);
    let mut socket = connect_from(world, b"http/1.1", from).await;
    socket.write_all(&[&raw.head(), first].concat()).await.unwrap();
    socket.flush().await.unwrap();
    if let Ok(refused) = tokio::time::timeout(SILENCE, receive(&mut socket)).await {
        return refused;
    }
    socket.write_all(rest).await.unwrap();
    socket.flush().await.unwrap();
    receive(&mut socket).await
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_of_a_credential_at_an_address_are_bounded() {
    let server = format!("body_bytes = \"{}KiB\"", LARGEST >> 10);
    let world = World::with(Options { server, ..Options::default() }).await;
    let (alpha, beta) = (world.alpha(), world.beta());
    let (here, elsewhere) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    assert_eq!(in_pieces(&world, &alpha, here).await.status, Some(201));
    let mut unfinished = Vec::new();
    for _ in 0..HELD {
        unfinished.push(leave_unfinished(&world, &alpha, here).await);
    }
    eventually("the share is used up", async || {
        let answer = in_pieces(&world, &alpha, here).await;
        if answer.status != Some(429) {
            return false;
        }
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json()["code"], "rate_limited");
        true
    })
    .await;
    // What is there in one piece is not held, and nobody else is refused anything.
    create(&alpha, "lamps").await;
    assert_eq!(in_pieces(&world, &alpha, elsewhere).await.status, Some(201));
    assert_eq!(in_pieces(&world, &beta, here).await.status, Some(201));
    let limited = "countersign_limited_total{scope=\"unfinished-bodies\"}";
    assert!(super::metric(&world.app().metrics_text(), limited).unwrap() > 0);
    drop(unfinished);
    eventually("it is given back", async || in_pieces(&world, &alpha, here).await.status == Some(201)).await;
}
