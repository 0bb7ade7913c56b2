//! Where the values of JSON that is known to be valid begin and end, one level at a time. Apart from
//! the check, which is made once, while a body is walked as often as something in it is opened.

use crate::acp::canonical::plain_run;

/// A walk through one object or array.
pub(super) struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// The inside of an object or array; `None` when it does not open with `bracket`.
    pub(super) fn into(text: &'a str, bracket: char) -> Option<Self> {
        text.starts_with(bracket).then_some(Self { text, at: 1 })
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

    /// The value that stands here, or after the colon.
    pub(super) fn value(&mut self) -> Option<&'a str> {
        self.has_more().then_some(())?;
        let start = self.at;
        match self.text.as_bytes().get(start)? {
            b'"' => self.pass_string(),
            b'{' | b'[' => self.pass_brackets(),
            _ => self.pass_scalar(),
        }
        self.text.get(start..self.at)
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
