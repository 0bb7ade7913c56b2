//! What is left of cards in the memory of the process once they were used.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::json;

use super::drive::secret_mint;
use super::needles::{CVC, HOLDER};
use crate::world::child::Gateway;
use crate::world::*;

/// Purchases, each on a connection of its own.
const PURCHASES: usize = 20;
/// The connections' ends are seen by then.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// What of an allocator's large blocks has ever been written to, in pieces that overlap by more than the
/// longest text.
fn touched(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    const PIECE: usize = 1 << 16;
    const OVERLAP: usize = 64;
    static UNTOUCHED: [u8; PIECE + OVERLAP] = [0; PIECE + OVERLAP];
    let pieces = (0..block.len()).step_by(PIECE);
    let pieces = pieces.map(|at| &block[at..(at + PIECE + OVERLAP).min(block.len())]);
    pieces.filter(|piece| **piece != UNTOUCHED[..piece.len()])
}

/// What a program prints that only root may run; nothing when it fails.
fn as_root(words: &[&str]) -> Option<Vec<u8>> {
    let words =
        if rustix::process::geteuid().is_root() { words.to_vec() } else { [&["sudo", "-n"], words].concat() };
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    output.status.success().then_some(output.stdout)
}

/// Where, and how often, each text stands in the memory of a process that it can write to.
fn remains(process: u32, texts: &[String]) -> BTreeMap<String, usize> {
    let maps = as_root(&["cat", &format!("/proc/{process}/maps")]).unwrap();
    let mut found = BTreeMap::new();
    let mut looked_at = 0;
    for line in String::from_utf8(maps).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let what = words.nth(3).unwrap_or("allocated");
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let (memory, skip) = (format!("if=/proc/{process}/mem"), format!("skip={from}"));
        let count = format!("count={}", to - from);
        let units = "iflag=skip_bytes,count_bytes,fullblock";
        let Some(block) = as_root(&["dd", &memory, &skip, &count, units, "bs=1M", "status=none"]) else {
            continue;
        };
        looked_at += block.len();
        for piece in touched(&block) {
            for text in texts {
                let times = memchr::memmem::find_iter(piece, text).count();
                if times > 0 {
                    *found.entry(format!("{text} in {what}")).or_default() += times;
                }
            }
        }
    }
    assert!(looked_at > 1 << 20, "only {looked_at} bytes could be read");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_card_is_left_in_memory_once_it_was_used_and_its_connections_are_closed() {
    let mut world = World::closed(Options::default()).await;
    let gateway = Gateway::start(&mut world).await;
    for _ in 0..PURCHASES {
        let alpha = world.alpha();
        let (session, total) = create(&alpha, "lamps").await;
        let minted = alpha
            .post("/agentic_commerce/delegate_payment", &secret_mint(GOOD_CARD, &session, total))
            .send()
            .await
            .unwrap();
        assert_eq!(minted.status, 201, "{}", minted.json());
        let token = minted.text("/id").unwrap();
        let path = format!("/m/lamps/checkout_sessions/{session}/complete");
        let paid = alpha.post(path, &payment(&token)).send().await.unwrap();
        assert_eq!(paid.text("/status").as_deref(), Some("completed"), "{}", paid.json());
    }
    let texts = [GOOD_CARD.to_owned(), HOLDER.to_owned(), format!("\"cvc\":{}", json!(CVC))];
    // The shop's old connection ends too.
    world.meet(gateway.public);
    // What it should find where it is.
    let mine = remains(std::process::id(), &texts);
    assert!(mine.keys().any(|place| place.starts_with(GOOD_CARD)), "{mine:?}");
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let left = remains(gateway.id(), &texts);
        if left.is_empty() {
            break;
        }
        assert!(std::time::Instant::now() < until, "{left:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
