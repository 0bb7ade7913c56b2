//! The Agentic Commerce Protocol as a gateway sees it: versions, routes, headers, errors and views
//! of bodies. Pure and synchronous: nothing here waits, stores or sends.

pub mod authority;
pub mod canonical;
pub mod header;
pub mod problem;
pub mod route;
pub mod version;
