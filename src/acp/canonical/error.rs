//! Why a body has no canonical form. It carries an offset and never a byte of the input: bodies hold
//! card numbers.

use thiserror::Error;

/// Why a body is refused, with the offset in bytes at which that was seen.
/// Source: RFC 8785 §3.1 (I-JSON, RFC 7493), and our bounds on depth, nodes and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JsonError {
    /// A byte order mark before the document (RFC 8259 §8.1).
    #[error("a byte order mark at byte {0}")]
    ByteOrderMark(usize),
    /// Bytes that are not UTF-8.
    #[error("invalid UTF-8 at byte {0}")]
    InvalidUtf8(usize),
    /// A byte that JSON does not allow where it stands (RFC 8259).
    #[error("not JSON at byte {0}")]
    Syntax(usize),
    /// The input ends inside the document.
    #[error("the document is cut off at byte {0}")]
    UnexpectedEnd(usize),
    /// Something other than white space after the document.
    #[error("more after the document at byte {0}")]
    TrailingBytes(usize),
    /// More than [`MAX_DEPTH`](super::MAX_DEPTH) arrays and objects inside one another.
    #[error("nested too deeply at byte {0}")]
    TooDeep(usize),
    /// More than [`MAX_NODES`](super::MAX_NODES) values.
    #[error("too many values at byte {0}")]
    TooManyNodes(usize),
    /// An escaped surrogate without its other half.
    #[error("a lone surrogate at byte {0}")]
    LoneSurrogate(usize),
    /// U+0000 in a member's name.
    #[error("a NUL in a member name at byte {0}")]
    NulInName(usize),
    /// A name that an earlier member of the object has, however the two are escaped.
    #[error("a duplicate member name at byte {0}")]
    DuplicateName(usize),
    /// More than [`MAX_NUMBER_DIGITS`](super::MAX_NUMBER_DIGITS) digits.
    #[error("a number with too many digits at byte {0}")]
    TooManyDigits(usize),
    /// An exponent beyond [`MAX_NUMBER_EXPONENT`](super::MAX_NUMBER_EXPONENT) either way.
    #[error("a number with an exponent out of range at byte {0}")]
    ExponentTooLarge(usize),
    /// A number that is not the shortest decimal of its nearest double: readers would not agree on it.
    #[error("a number that a double does not hold exactly at byte {0}")]
    InexactNumber(usize),
}

impl JsonError {
    /// Where it was seen, in bytes from the start of the input; for a name or a number, its start.
    pub const fn offset(self) -> usize {
        match self {
            Self::ByteOrderMark(at)
            | Self::InvalidUtf8(at)
            | Self::Syntax(at)
            | Self::UnexpectedEnd(at)
            | Self::TrailingBytes(at)
            | Self::TooDeep(at)
            | Self::TooManyNodes(at)
            | Self::LoneSurrogate(at)
            | Self::NulInName(at)
            | Self::DuplicateName(at)
            | Self::TooManyDigits(at)
            | Self::ExponentTooLarge(at)
            | Self::InexactNumber(at) => at,
        }
    }
}
