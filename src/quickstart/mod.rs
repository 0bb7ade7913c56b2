//! What the README's first command runs: a sample merchant, a sample agent, development
//! certificates and the gateway, all on loopback. The samples are whole enough that the tests use
//! them as the other side of every wire.

pub mod agent;
pub mod certificates;
pub mod client;
pub mod shop;
