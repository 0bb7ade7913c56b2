//! The log of the process: every line arrives whole, whatever takes it.

use std::io::Read as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use crate::world::child::Gateway;
use crate::world::*;

/// Requests: with one line each, more than a pipe holds.
const REQUESTS: usize = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_is_full_and_does_not_block_loses_and_tears_no_line() {
    let mut world = World::closed(Options::default()).await;
    let mut gateway = Gateway::start(&mut world).await;
    gateway.kill();
    let (mut read, write) = std::io::pipe().unwrap();
    fcntl_setfl(&write, fcntl_getfl(&write).unwrap() | OFlags::NONBLOCK).unwrap();
    gateway.restart_logging_to(Stdio::from(write)).await;

    let alpha = world.alpha();
    for _ in 0..REQUESTS {
        let answer = alpha.get("/m/lamps/checkout_sessions/cs_none").send().await.unwrap();
        assert!(answer.status.is_client_error(), "{}", answer.status);
    }
    let metrics = gateway.metrics().await;
    let dropped = metrics.lines().find_map(|line| line.strip_prefix("countersign_log_lines_dropped_total "));
    assert_eq!(dropped, Some("0"));

    // Only now does anybody read.
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        text
    });
    gateway.terminate();
    let began = Instant::now();
    assert!(gateway.exited(Duration::from_secs(60)).await.success(), "{:?}", began.elapsed());
    let text = reading.await.unwrap();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let requests = lines.iter().filter(|line| line["event"] == "request").count();
    assert_eq!(requests, REQUESTS);
    assert_eq!(lines.last().unwrap()["event"], "stopped");
}
