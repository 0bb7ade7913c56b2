//! The verbs of the `countersign` binary, one file each. They take arguments and a writer, so that
//! `main` only starts them and tests see what users see.

mod admin_client;
pub mod check;
mod claims;
mod given_request;
mod key_file;
mod keygen;
pub mod profile;
pub mod reach;
mod sign;
mod store;
mod verify;

#[cfg(test)]
mod tests;

pub use claims::claims;
pub use keygen::{KeyKind, KeygenArgs, keygen};
pub use sign::{SignArgs, sign};
pub use store::store;
pub use verify::{VerifyArgs, verify};
