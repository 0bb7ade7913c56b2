//! Countersign: a payment gateway proxy for the Agentic Commerce Protocol.
//!
//! Declaration order is dependency order: a module names only modules declared above it, so the
//! house has no circles and can be read from the top. `tests/house.rs` fails on an upward import.
//! The stages stand in the order in which a request meets them.

// Vocabulary: what everything else speaks.
pub mod domain;
pub mod telemetry;
pub mod crypto;
pub(crate) mod structured_fields;
pub mod http_signature;
pub mod acp;
pub mod records;
pub mod registry;
// Stages, in the order a request meets them.
pub mod limit;
pub(crate) mod drain;
pub(crate) mod body;
pub mod auth;
pub mod idempotency;
pub(crate) mod fraud;
pub mod token;
pub mod ledger;
pub mod merchant;
// Adapters (the server knows nothing of payments), then flow, then shell.
pub mod storage;
pub mod server;
pub(crate) mod gateway;
pub mod config;
pub(crate) mod operator;
pub mod app;
pub mod quickstart;
pub mod conformance;
pub mod doctor;
pub mod cli;

// What must not compile, misuse of a claim, is shown from outside.
pub use gateway::{HeldClaim, Settled};
