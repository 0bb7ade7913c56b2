//! Writing an RFC 8941 dictionary: the form of `Countersign-Context`.

use std::fmt::Write as _;

/// The largest integer of RFC 8941 §3.3.1: fifteen digits.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// A value cannot be written as a structured field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritable;

/// A dictionary under construction.
#[derive(Default)]
pub struct Dictionary(String);

impl Dictionary {
    /// Appends a string (§3.3.3).
    ///
    /// # Errors
    /// [`Unwritable`] when it is not printable ASCII.
    pub fn string(&mut self, key: &str, value: &str) -> Result<(), Unwritable> {
        if !value.bytes().all(|b| matches!(b, 0x20..=0x7e)) {
            return Err(Unwritable);
        }
        self.key(key);
        self.0.push_str("=\"");
        for character in value.chars() {
            if matches!(character, '"' | '\\') {
                self.0.push('\\');
            }
            self.0.push(character);
        }
        self.0.push('"');
        Ok(())
    }

    /// Appends an integer.
    ///
    /// # Errors
    /// [`Unwritable`] above fifteen digits.
    pub fn integer(&mut self, key: &str, value: u64) -> Result<(), Unwritable> {
        if value > MAX_INTEGER {
            return Err(Unwritable);
        }
        self.key(key);
        write!(self.0, "={value}").map_err(|_| Unwritable)
    }

    /// Appends a boolean (§3.3.6); true is the bare key (§4.1.2).
    pub fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        if !value {
            self.0.push_str("=?0");
        }
    }

    /// The dictionary as a header's value.
    pub fn finish(self) -> String {
        self.0
    }

    fn key(&mut self, key: &str) {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_in_order_and_strings_escaped() {
        let mut dictionary = Dictionary::default();
        dictionary.string("a", r#"x"y\z"#).unwrap();
        dictionary.integer("b", MAX_INTEGER).unwrap();
        dictionary.boolean("c", false);
        dictionary.boolean("d", true);
        assert_eq!(dictionary.finish(), r#"a="x\"y\\z", b=999999999999999, c=?0, d"#);
    }

    #[test]
    fn what_a_structured_field_cannot_hold_is_not_written() {
        let mut dictionary = Dictionary::default();
        assert!(dictionary.string("a", "é").is_err());
        assert!(dictionary.string("a", "x\r\ny").is_err());
        assert!(dictionary.integer("a", MAX_INTEGER + 1).is_err());
        assert_eq!(dictionary.finish(), "");
    }
}
