//! Behaviour through the public socket: real TLS, a real store on disk, real shops and agents.
//!
//! A test that stands for something ACP asks for begins with a letter and a number, such as `h1_` or
//! `p10_` (`src/acp/README.md`, "Names of tests").

#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests"
)]

/// Redis servers.
#[path = "../redis_server/mod.rs"]
mod redis_server;

/// The world of a test: a gateway, shops, agents.
#[allow(dead_code, reason = "what one test file does not need another does")]
mod world;

/// Requests as bytes, for what no HTTP library would send.
mod wire;

/// The operators' listener with TLS.
mod admin_tls;
/// Malformed, oversized and hostile requests.
mod bad_requests;
/// Why requests fail: in the log, not in the answer.
mod causes;
/// Merchants that go away and come back.
mod breakers;
/// What `check` finds, and `serve` refuses.
mod checks;
/// Clocks that are set while money moves.
mod clocks;
/// What `conformance` finds of shops, and where it orders nothing.
mod conformance;
/// `kill -9` and what is found afterwards.
mod crash;
/// Answers that never came, came late or were wrong.
mod doubt;
/// What `doctor` sees.
mod doctor;
/// SIGTERM.
mod drain;
/// What people are given to paste.
mod guides;
/// Headers, versions, errors, discovery.
mod head;
/// Idempotency.
mod idempotency;
/// The image, for those who may make one.
mod image;
/// Merchants behind several base URLs.
mod standby;
/// Two things at once, in the order that is least convenient.
mod interleavings;
/// Slow and dead merchants beside healthy ones.
mod isolation;
/// The log, whatever it is written to.
mod log;
/// The dashboard and the alerts.
mod observability;
/// `init`, and a quickstart with a shop of yours.
mod own_shop;
/// Minting and spending tokens.
mod payment;
/// What the process may open, and who may look into it.
mod process;
/// One purchase from end to end.
mod purchase;
/// Many at once: one token, one key, one session.
mod races;
/// What `conformance agent` finds of agents.
mod sandboxed;
/// What a collector is told.
mod traces;
/// Official schemas and examples.
mod schema;
/// The configuration read again while money moves.
mod reload;
/// What may never be printed or stored in the clear.
mod secrets;
/// Sessions and carts.
mod sessions;
/// Copies of the store, what is looked for in them, and damage.
mod stores;
/// The kill switch.
mod suspension;
