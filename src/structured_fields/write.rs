//! Writing: bare items and parameters appended to a text, and whole dictionaries.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The largest integer of RFC 8941 §3.3.1: fifteen digits.
const MAX_INTEGER: i64 = 999_999_999_999_999;

/// A value cannot be written as a structured field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotSerializable;

/// Appends a string (RFC 8941 §4.1.6).
///
/// # Errors
/// [`NotSerializable`] when it is not printable ASCII.
pub(crate) fn string(text: &str, out: &mut String) -> Result<(), NotSerializable> {
    if !is_printable(text) {
        return Err(NotSerializable);
    }
    out.push('"');
    if memchr::memchr2(b'"', b'\\', text.as_bytes()).is_some() {
        for character in text.chars() {
            if matches!(character, '"' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
    } else {
        out.push_str(text);
    }
    out.push('"');
    Ok(())
}

/// Appends an integer (RFC 8941 §4.1.4).
///
/// # Errors
/// [`NotSerializable`] above fifteen digits.
pub(crate) fn integer(value: i64, out: &mut String) -> Result<(), NotSerializable> {
    if !(-MAX_INTEGER..=MAX_INTEGER).contains(&value) {
        return Err(NotSerializable);
    }
    write!(out, "{value}").map_err(|_| NotSerializable)
}

/// Appends a byte sequence (RFC 8941 §4.1.8).
pub(crate) fn bytes(value: &[u8], out: &mut String) {
    out.push(':');
    STANDARD.encode_string(value, out);
    out.push(':');
}

/// Appends the key of a parameter whose value follows (RFC 8941 §4.1.1.2).
pub(crate) fn parameter(key: &'static str, out: &mut String) {
    out.push(';');
    out.push_str(key);
    out.push('=');
}

/// Whether text is printable ASCII. Without a branch a byte, so that many are looked at at once.
pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

/// The same, and tabulators.
pub(crate) fn is_printable_or_tab(text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & (matches!(byte, b' '..=b'~') | (byte == b'\t')))
}

/// Whether a text is a key (RFC 8941 §3.1.2).
pub(crate) fn is_key(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') && text.bytes().all(is_in_key)
}

/// Whether a byte may stand in a key behind its first.
pub(super) fn is_in_key(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.' | b'*')
}

/// A dictionary under construction. Its keys are constants of ours.
pub(crate) struct Dictionary<'a> {
    out: &'a mut String,
    start: usize,
}

impl<'a> Dictionary<'a> {
    /// One that is appended to a text.
    pub(crate) fn onto(out: &'a mut String) -> Self {
        Self { start: out.len(), out }
    }

    /// Appends a string.
    ///
    /// # Errors
    /// [`NotSerializable`] when it is not printable ASCII; nothing is appended.
    pub(crate) fn string(&mut self, key: &'static str, value: &str) -> Result<(), NotSerializable> {
        self.member(key, |out| string(value, out))
    }

    /// Appends an integer.
    ///
    /// # Errors
    /// [`NotSerializable`] above fifteen digits; nothing is appended.
    pub(crate) fn integer(&mut self, key: &'static str, value: u64) -> Result<(), NotSerializable> {
        let value = i64::try_from(value).map_err(|_| NotSerializable)?;
        self.member(key, |out| integer(value, out))
    }

    /// Appends a boolean (RFC 8941 §4.1.9); true is the bare key (§4.1.2).
    pub(crate) fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        if !value {
            self.out.push_str("=?0");
        }
    }

    fn member(
        &mut self,
        key: &'static str,
        write: impl FnOnce(&mut String) -> Result<(), NotSerializable>,
    ) -> Result<(), NotSerializable> {
        let before = self.out.len();
        self.key(key);
        self.out.push('=');
        let written = write(self.out);
        if written.is_err() {
            self.out.truncate(before);
        }
        written
    }

    fn key(&mut self, key: &'static str) {
        if self.out.len() > self.start {
            self.out.push_str(", ");
        }
        self.out.push_str(key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Bare, Value};
    use super::*;

    #[test]
    fn members_are_written_in_order_and_strings_escaped() {
        let mut written = String::new();
        let mut dictionary = Dictionary::onto(&mut written);
        dictionary.string("a", r#"x"y\z"#).unwrap();
        dictionary.integer("b", 999_999_999_999_999).unwrap();
        dictionary.boolean("c", false);
        dictionary.boolean("d", true);
        assert_eq!(written, r#"a="x\"y\\z", b=999999999999999, c=?0, d"#);
    }

    #[test]
    fn what_a_structured_field_cannot_hold_is_not_written() {
        let mut written = String::new();
        let mut dictionary = Dictionary::onto(&mut written);
        assert!(dictionary.string("a", "é").is_err());
        assert!(dictionary.string("a", "x\r\ny").is_err());
        assert!(dictionary.integer("a", 1_000_000_000_000_000).is_err());
        assert_eq!(written, "");
    }

    #[test]
    fn bytes_stand_between_colons_and_parameters_behind_a_semicolon() {
        let mut out = String::from("a=");
        bytes(&[1, 2], &mut out);
        parameter("q", &mut out);
        integer(-7, &mut out).unwrap();
        assert_eq!(out, "a=:AQI=:;q=-7");
        assert_eq!(integer(-MAX_INTEGER - 1, &mut out), Err(NotSerializable));
    }

    #[test]
    fn a_key_begins_with_a_lower_case_letter_or_a_star() {
        for key in ["a", "*", "a1_-.*", "sig1"] {
            assert!(is_key(key), "{key}");
        }
        for text in ["", "1a", "A", "aB", "a=", "a b", "é"] {
            assert!(!is_key(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in "[ -~]{0,40}", number in 0..1_000_000_000_000_000_u64, octets: Vec<u8>) {
            let mut written = String::new();
        let mut dictionary = Dictionary::onto(&mut written);
            dictionary.string("a", &text).unwrap();
            dictionary.integer("b", number).unwrap();
            written.push_str(", c=");
            bytes(&octets, &mut written);
            let read = super::super::dictionary(&written).unwrap();
            let values: Vec<_> = read.into_iter().map(|member| member.value).collect();
            prop_assert_eq!(values, [
                Value::Bare(Bare::String(text.into())),
                Value::Bare(Bare::Integer(i64::try_from(number).unwrap())),
                Value::Bare(Bare::Bytes(octets)),
            ]);
        }
    }
}
