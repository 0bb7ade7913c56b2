//! A walk over the members of an object or the elements of an array that is known to be valid, one
//! level at a time: what is not opened is passed over in one step.

use super::syntax::Container;
use crate::acp::canonical::plain_run;

/// A walk through one object or array.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
    /// The objects and arrays that are still ahead.
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
                let (container, rest) = self.ahead.split_first()?;
                (inside, self.ahead) = rest.split_at_checked(container.inside())?;
                self.at += container.length();
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

    fn pass_scalar(&mut self) {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
            self.at += 1;
        }
    }
}
