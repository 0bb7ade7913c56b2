//! Clients that are slow on purpose: heads and bodies byte by byte, answers that are never read.
//! They hurt nobody, and do not stay.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use super::{assert_kept, eventually, latencies, metric};
use crate::wire::{Raw, Socket, connect};
use crate::world::*;

/// How many of each.
const SLOW: usize = 40;
/// And of those who never read, for whom the gateway does real work at first.
const SILENT: usize = 4;
/// Answers of over half a kilobyte each.
const ASKED: usize = 3_000;

/// One byte now and then, until the gateway has enough of it.
async fn drip(mut socket: Socket, bytes: Vec<u8>) {
    for byte in bytes {
        if socket.write_all(&[byte]).await.is_err() || socket.flush().await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Asks more than its buffers and the gateway's hold answers to, and never reads one.
async fn ask_only(mut socket: Socket, request: Vec<u8>) {
    let _ = socket.write_all(&request.repeat(ASKED)).await;
    std::future::pending::<()>().await;
}

/// A GET for the keys in HTTP/2, whose answer's body may not be sent: its window is empty.
fn windowless() -> Vec<u8> {
    let path = "/.well-known/jwks.json";
    let mut head = vec![0x82, 0x87, 0x04, path.len() as u8];
    head.extend(path.as_bytes());
    head.extend([0x01, GATEWAY.len() as u8]);
    head.extend(GATEWAY.as_bytes());
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // SETTINGS_INITIAL_WINDOW_SIZE is 0.
    bytes.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
    for stream in (1..64_u32).step_by(2) {
        bytes.extend([0, 0, head.len() as u8, 1, 5]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(&head);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_hurt_nobody_and_do_not_stay() {
    let server =
        "header_timeout = \"4s\"\nbody_timeout = \"4s\"\nidle_timeout = \"4s\"\nanswer_timeout = \"4s\""
            .to_owned();
    let world = Arc::new(World::with(Options { server, ..Options::default() }).await);
    let alpha = world.alpha();
    latencies(&alpha, "books", 10).await;
    let before = latencies(&alpha, "books", 30).await;

    let beta = world.beta();
    let create = Raw::of(&beta.post("/m/lamps/checkout_sessions", &lamp_order()).prepare().unwrap());
    let keys = format!("GET /.well-known/jwks.json HTTP/1.1\r\nhost: {GATEWAY}\r\n\r\n").into_bytes();
    let mut slow = JoinSet::new();
    for n in 0..SLOW {
        for kind in 0..4 {
            // Those who never read keep the machine busy: fewer of them will do.
            if kind >= 2 && n >= SILENT {
                continue;
            }
            let (world, create, keys) = (Arc::clone(&world), create.clone(), keys.clone());
            slow.spawn(async move {
                let mut socket = connect(&world, if kind == 3 { b"h2" } else { b"http/1.1" }).await;
                match kind {
                    0 => drip(socket, create.bytes()).await,
                    1 => {
                        socket.write_all(&create.head()).await.unwrap();
                        drip(socket, create.body).await;
                    }
                    2 => ask_only(socket, keys).await,
                    _ => {
                        socket.write_all(&windowless()).await.unwrap();
                        // Kept open from this side.
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    }
    let open = || metric(&world.app().metrics_text(), "countersign_connections_open").unwrap();
    let most = i64::try_from(2 * SLOW + 2 * SILENT).unwrap();
    eventually("the slow have come", async || open() >= most).await;
    assert_kept(&alpha, "books", 30, before).await;
    // All of them are sent away, though not one has closed: what remains is a shop or an agent.
    eventually("the slow are gone", async || open() <= 3).await;
    assert_kept(&alpha, "books", 5, before).await;
    assert!(world.lamps.calls().is_empty(), "nothing of them reached a merchant");
}
