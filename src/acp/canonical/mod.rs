//! Canonical JSON in one pass over the bytes, without a tree. Apart from the typed views of
//! `acp::wire` because signatures and fingerprints are about bodies, whatever they mean.
//!
//! One reader gives two forms. They have the same structure (no white space, members sorted by the
//! UTF-16 code units of their names, strings with the fewest escapes) and differ in numbers only:
//!
//! | | for | numbers | `1500.0` |
//! |---|---|---|---|
//! | [`canonicalize`] | signatures | RFC 8785 §3.2.2.3: as ECMAScript prints them | `1500` |
//! | [`exact_form`] | comparing bodies | whole digits and a power of ten, never expanded | `15e2` |
//!
//! Both refuse the same inputs ([`JsonError`]). Because a number that a double cannot hold exactly is
//! among them, two accepted bodies have equal canonical forms exactly when they have equal exact forms:
//! a signature over the canonical form never covers two different bodies.

mod error;
mod member;
mod number;
mod reader;
mod text;

#[cfg(test)]
#[allow(clippy::as_conversions)]
mod properties;
#[cfg(test)]
#[allow(clippy::as_conversions)]
mod samples;
#[cfg(test)]
mod tests;

pub use error::JsonError;
pub use text::plain_run;

use reader::{Form, read};

/// Arrays and objects inside one another, the outermost counted.
pub const MAX_DEPTH: usize = 32;

/// Values in a document: arrays, objects, strings, numbers and literals. Member names are not counted.
pub const MAX_NODES: usize = 10_000;

/// Digits a number may be written with before its exponent, zeros counted.
pub const MAX_NUMBER_DIGITS: usize = 32;

/// The largest exponent a number may be written with, and the smallest negated.
pub const MAX_NUMBER_EXPONENT: i32 = 400;

/// Appends the RFC 8785 form of `input` to `out`.
///
/// Strings and structure never grow and a number grows to at most 25 bytes, so that less than six
/// times the length of `input` is appended; while members are sorted, twice that is held.
///
/// # Errors
/// What [`JsonError`] lists; `out` is then as it was before.
pub fn canonicalize(input: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    read(input, out, Form::Rfc8785)
}

/// Appends a form of `input` whose bytes are equal for two documents exactly when the documents are:
/// numbers by their value, objects whatever the order of their members, arrays in order, strings by
/// their characters without Unicode normalisation. `null` differs from an absent member.
///
/// The form is JSON again, at most twice as long as `input`.
///
/// # Errors
/// What [`JsonError`] lists; `out` is then as it was before.
pub fn exact_form(input: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    read(input, out, Form::ExactDecimals)
}

/// Whether `input` would be accepted by [`canonicalize`] and [`exact_form`], for callers that need
/// neither. It costs as much as they do.
///
/// # Errors
/// What [`JsonError`] lists.
pub fn check(input: &[u8]) -> Result<(), JsonError> {
    canonicalize(input, &mut Vec::with_capacity(input.len()))
}
