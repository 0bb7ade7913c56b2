//! Why a request failed, in the log and never in the answer.

/// Merchants that take some requests and no more.
mod crowded;
/// What of ours failed.
mod ours;
/// Merchants that break every rule.
mod servers;
/// What came to nothing at a merchant.
mod upstream;

use std::time::{Duration, Instant};

use countersign::quickstart::client::Answer;
use serde_json::Value;

use crate::world::*;

/// How long a log line may take behind its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The log line of the request with this answer.
async fn line_of(world: &World, answer: &Answer) -> Value {
    let id = format!(r#""request_id":"{}""#, answer.header("request-id").unwrap());
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(line) = world.log.text().lines().find(|line| line.contains(&id)) {
            return serde_json::from_str(line).unwrap();
        }
        assert!(Instant::now() < until, "no line with {id} in {}", world.log.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
