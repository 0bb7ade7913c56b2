//! For operators: an API on the admin listener, and the check of a store at rest.
//!
//! An API on the admin listener, behind credentials of its own, what is said over it, and the check of a
//! store at rest.
//!
//! What is done lives elsewhere, in `gateway` and `storage`; here it is asked for and told.

mod answers;
mod api;
pub(crate) mod check;
mod check_money;
pub(crate) mod fault;
mod query;
pub(crate) mod reload;
mod routes;
mod switch;
pub(crate) mod wire;
pub(crate) mod wire_reload;
pub(crate) mod wire_session;
pub(crate) mod wire_suspension;

pub(crate) use api::{Api, Configured};
