//! Structured fields (RFC 8941, RFC 9651): the one place that reads and writes them.

mod lines;
mod read;
pub(crate) mod write;

pub(crate) use lines::Lines;
pub(crate) use read::{Bare, Item, Member, Value, dictionary};
pub(crate) use write::{Dictionary, NotSerializable};

/// Bytes of a field that is read.
pub(crate) const MAX_FIELD_BYTES: usize = 16 * 1024;
/// Items of one inner list.
pub(crate) const MAX_ITEMS: usize = 32;

/// Why a field cannot be read. Holds no byte of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FieldError {
    /// Not a dictionary of RFC 8941 §3.2.
    #[error("the field is malformed")]
    Malformed,
    /// More members, items, parameters or bytes than are read.
    #[error("the field is larger than is accepted")]
    TooLarge,
    /// A key of a dictionary, or of parameters, stands twice.
    #[error("a key is repeated")]
    Repeated,
}
