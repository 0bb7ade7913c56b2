//! What may never be printed or stored in the clear.
//!
//! Cards, security codes, cryptograms, credentials and keys, driven through every route, good and bad,
//! past merchants that repeat what they are told; then looked for, in every spelling, in the log, the
//! metrics, the answers, and every byte on disk.

mod configuration;
mod drive;
mod echoes;
mod epochs;
mod memory;
mod needles;
mod records;

use std::path::Path;

use drive::Driven;
use needles::Needles;

use crate::world::World;

/// Every file below a directory.
fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// A journal is allocated long before it is filled.
fn without_zeros_behind(bytes: &[u8]) -> &[u8] {
    const BLOCK: [u8; 4096] = [0; 4096];
    let blocks = bytes.rchunks_exact(BLOCK.len()).take_while(|block| **block == BLOCK);
    &bytes[..bytes.len() - blocks.count() * BLOCK.len()]
}

/// What the gateway has written to disk, by file.
fn written(world: &World) -> Vec<(String, Vec<u8>)> {
    let mut paths = Vec::new();
    files(&world.directory.path().join("store"), &mut paths);
    files(&world.directory.path().join("epochs"), &mut paths);
    let read = |path: std::path::PathBuf| {
        let name = path.strip_prefix(world.directory.path()).unwrap().display().to_string();
        (name, without_zeros_behind(&std::fs::read(&path).unwrap()).to_vec())
    };
    paths.into_iter().map(read).collect()
}

/// Where any of the secrets stands in what the gateway has written; it is shut down for this, so
/// that nothing is still on its way.
async fn leaks(world: &mut World, needles: &Needles) -> Vec<String> {
    let metrics = world.app().metrics_text();
    world.close().await;
    let mut found = needles.find_in("the metrics", metrics.as_bytes());
    found.extend(needles.find_in("the log", world.log.text().as_bytes()));
    for (name, bytes) in written(world) {
        found.extend(needles.find_in(&name, &bytes));
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_counted_answered_or_on_disk() {
    let mut driven = Driven::start().await;
    driven.good().await;
    driven.bad_mints().await;
    driven.misplaced().await;
    driven.credentials().await;
    let needles = Needles::of(&driven.world);
    assert!(driven.answers.len() > 60, "{} answers", driven.answers.len());
    let mut found: Vec<String> =
        driven.answers.iter().flat_map(|(name, answer)| needles.find_in(name, answer)).collect();
    found.extend(leaks(&mut driven.world, &needles).await);
    // The gateway has ended: the collector was told of everything.
    let told = driven.collector.bodies.lock().concat();
    found.extend(needles.find_in("the traces", &told));
    assert!(driven.collector.spans().len() > 3 * driven.answers.len());
    assert!(found.is_empty(), "{}", found.join("\n"));
    // There was something to look at: each request's line in the log, a token's name on disk.
    assert!(driven.world.log.text().lines().count() > driven.answers.len());
    let token = driven.tokens[0].as_bytes();
    let holds_token = |bytes: &[u8]| bytes.windows(token.len()).any(|at| at == token);
    assert!(written(&driven.world).iter().any(|(_, bytes)| holds_token(bytes)));
}
