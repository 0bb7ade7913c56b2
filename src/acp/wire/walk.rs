//! A walk over the members of an object or the elements of an array, one level at a time.
//!
//! The text is known to be valid: what is not opened is passed over in one step where the outline tells
//! its length.

use super::syntax::Container;
use crate::acp::canonical::plain_run;

/// A walk through one object or array.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// The objects and arrays that are still ahead, where the outline has them.
    ahead: &'a [Container],
}

impl<'a> Walk<'a> {
    /// The inside of an object or array; `None` when it does not open with `bracket`.
    pub(super) fn into(text: &'a str, inside: &'a [Container], bracket: char) -> Option<Self> {
        text.starts_with(bracket).then_some(Self { text, at: 1, ahead: inside })
    }

    /// Whether another member or element follows; passes the comma before it.
    pub(super) fn has_more(&mut self) -> bool {
        loop {
            match self.text.as_bytes().get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') => self.at += 1,
                Some(b'}' | b']') | None => return false,
                Some(_) => return true,
            }
        }
    }

    /// The value that stands here, or after the colon, and the objects and arrays within it.
    pub(super) fn value(&mut self) -> Option<(&'a str, &'a [Container])> {
        self.has_more().then_some(())?;
        let start = self.at;
        let mut inside: &[Container] = &[];
        match self.text.as_bytes().get(start)? {
            b'"' => self.pass_string(),
            b'{' | b'[' => {
                if let Some((container, rest)) = self.ahead.split_first() {
                    (inside, self.ahead) = rest.split_at_checked(container.inside())?;
                    self.at += container.length();
                } else {
                    self.pass_brackets();
                }
            }
            _ => self.pass_scalar(),
        }
        Some((self.text.get(start..self.at)?, inside))
    }

    fn pass_string(&mut self) {
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(rest) = bytes.get(self.at..) {
            let plain = plain_run(rest);
            self.at += plain + 1;
            if rest.get(plain) != Some(&b'\\') {
                return;
            }
            // What is escaped ends nothing.
            self.at += 1;
        }
    }

    /// Where the outline was left away.
    fn pass_brackets(&mut self) {
        let bytes = self.text.as_bytes();
        let mut open = 0usize;
        while let Some(byte) = bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.pass_string();
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return;
            }
        }
    }

    fn pass_scalar(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
            self.at += 1;
        }
    }
}
