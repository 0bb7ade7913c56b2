//! For operators: an API on the admin listener, behind credentials of its own, and the commands that
//! speak to it or look after a store at rest.
//!
//! What is done lives elsewhere, in `gateway` and `storage`; here it is asked for and told.

mod api;
pub mod check;
mod check_money;
mod client;
pub mod command;
pub mod fault;
pub mod wire;

pub use api::Api;
pub use client::{Admin, AdminError};
