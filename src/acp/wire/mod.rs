//! Views of bodies: what the gateway must understand of them, and no more. The bytes themselves
//! travel on as they came; nothing here is ever written back in their place.

pub mod complete;
pub mod delegate_payment;
mod fields;
pub mod json;
pub mod redeem;
pub mod session;
pub mod syntax;
mod walk;
pub mod write_only;

/// Why a request body cannot be used. Holds no byte of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WireError {
    /// Which kind of fault.
    pub fault: Fault,
    /// What is wrong, in words of our own.
    pub message: &'static str,
    /// Where: an RFC 9535 JSONPath made of known names alone.
    pub param: String,
}

/// The two kinds of fault a body can have (`acp/protocol.md` C10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its shape is not what the schema says: 400.
    Structural,
    /// Its shape is right and its meaning is not: 422.
    Semantic,
}

impl WireError {
    fn structural(message: &'static str, param: impl Into<String>) -> Self {
        Self { fault: Fault::Structural, message, param: param.into() }
    }

    fn semantic(message: &'static str, param: impl Into<String>) -> Self {
        Self { fault: Fault::Semantic, message, param: param.into() }
    }
}
