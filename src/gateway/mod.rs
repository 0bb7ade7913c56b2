//! Under construction.

pub mod body;
pub mod drain;
