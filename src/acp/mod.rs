//! The Agentic Commerce Protocol as a gateway sees it.
//!
//! Versions, routes, headers, errors and views of bodies. Pure and synchronous: nothing here waits,
//! stores or sends.

pub mod authority;
pub mod canonical;
pub mod discovery;
pub mod header;
#[cfg(test)]
mod official;
pub mod problem;
pub mod route;
pub mod version;
pub mod wire;

/// How strictly requests are read where ACP contradicts itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Refuse a card without `virtual`. Default false: the schemas make it optional, only the RFC
    /// text requires it (`src/acp/README.md`, "Cards").
    pub require_virtual: bool,
}
