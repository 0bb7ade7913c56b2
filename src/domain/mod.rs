//! The vocabulary: ids, money, time, secrets, cards, and the pure state machines.
//!
//! Of sessions, claims and tokens. Synchronous; knows no HTTP, no database and no cipher.

pub mod allowance;
pub mod base_url;
pub mod card;
pub mod clock;
pub mod id;
pub mod money;
pub mod secret;
pub mod session;
pub mod told;
pub mod token;
pub(crate) mod wiping;
