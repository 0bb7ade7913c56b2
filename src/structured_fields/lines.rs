//! Header lines written one behind another into one buffer, of which each value is then a part.
//!
//! So that a head is written once, and to copy it copies no text.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::NotSerializable;
use super::write::is_printable_or_tab;

/// Of a request to a merchant.
const USUAL_LINES: usize = 12;

/// Lines under way.
pub(crate) struct Lines {
    text: String,
    written: SmallVec<[(HeaderName, Range<usize>); USUAL_LINES]>,
}

impl Lines {
    /// Room for so many bytes, which grows.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { text: String::with_capacity(bytes), written: SmallVec::new() }
    }

    /// Writes text that is no line. Gives where it stands in what [`Self::put`] gives.
    pub(crate) fn aside(&mut self, parts: &[&str]) -> Range<usize> {
        let start = self.text.len();
        parts.iter().for_each(|part| self.text.push_str(part));
        start..self.text.len()
    }

    /// Adds a line whose value is written by `write`.
    ///
    /// # Errors
    /// [`NotSerializable`] when it is not visible ASCII; nothing is to be done with the others then.
    pub(crate) fn add<E>(
        &mut self,
        name: HeaderName,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<(), NotSerializable> {
        let start = self.text.len();
        write(&mut self.text).map_err(|_| NotSerializable)?;
        if !self.text.get(start..).is_some_and(is_printable_or_tab) {
            return Err(NotSerializable);
        }
        self.written.push((name, start..self.text.len()));
        Ok(())
    }

    /// Adds a line of this text.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(crate) fn add_text(&mut self, name: HeaderName, text: &str) -> Result<(), NotSerializable> {
        self.add(name, |out| {
            out.push_str(text);
            Ok::<_, NotSerializable>(())
        })
    }

    /// Puts the lines into a head. Gives the text they are parts of.
    ///
    /// # Errors
    /// None that [`Self::add`] has not told before.
    pub(crate) fn put(self, headers: &mut HeaderMap) -> Result<Bytes, NotSerializable> {
        let text = Bytes::from(self.text);
        for (name, range) in self.written {
            let value = HeaderValue::from_maybe_shared(text.slice(range)).map_err(|_| NotSerializable)?;
            headers.insert(name, value);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, FROM};

    use super::*;

    #[test]
    fn lines_are_put_as_they_were_written_and_text_aside_is_none() {
        let mut lines = Lines::with_capacity(1);
        let aside = lines.aside(&["/a", "/b"]);
        lines.add_text(ACCEPT, "x\ty").unwrap();
        lines
            .add(FROM, |out| {
                out.push_str("one, ");
                out.push_str("two");
                Ok::<_, NotSerializable>(())
            })
            .unwrap();
        let mut headers = HeaderMap::new();
        let text = lines.put(&mut headers).unwrap();
        assert_eq!(text.slice(aside), "/a/b");
        assert_eq!(
            (headers.len(), &headers[ACCEPT], &headers[FROM]),
            (2, &HeaderValue::from_static("x\ty"), &HeaderValue::from_static("one, two"))
        );
    }

    #[test]
    fn what_could_end_a_line_or_is_not_ascii_is_not_written() {
        for bad in ["a\r\nb", "a\n", "é", "\0", "\x7f"] {
            let mut lines = Lines::with_capacity(8);
            assert_eq!(lines.add_text(ACCEPT, bad), Err(NotSerializable), "{bad:?}");
        }
        let refused = Lines::with_capacity(8).add(ACCEPT, |_| Err(()));
        assert_eq!(refused, Err(NotSerializable));
    }
}
