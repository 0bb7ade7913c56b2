//! The order of an object's members.
//!
//! By the UTF-16 code units of their unescaped names (RFC 8785 §3.2.3), found from the UTF-8 form that is
//! already written.

use super::JsonError;
use super::text::unescaped;
use std::cmp::Ordering;

/// A member as it stands in the output: `start..name_end` is the name with its quotes, `start..end`
/// the whole member.
pub(super) struct Member {
    pub start: usize,
    pub name_end: usize,
    pub end: usize,
    /// Where the name stands in the input.
    pub offset: usize,
    /// Whether the written name has escapes.
    pub escaped: bool,
}

impl Member {
    /// Orders two members of one object by name.
    pub(super) fn compare(&self, other: &Self, out: &[u8]) -> Ordering {
        let (mine, theirs) = (self.name(out), other.name(out));
        if self.escaped || other.escaped {
            return unescaped(mine).map(rank).cmp(unescaped(theirs).map(rank));
        }
        match mine.iter().zip(theirs).find(|(a, b)| a != b) {
            Some((a, b)) => rank(*a).cmp(&rank(*b)),
            None => mine.len().cmp(&theirs.len()),
        }
    }

    /// The name as written, without its quotes.
    fn name<'a>(&self, out: &'a [u8]) -> &'a [u8] {
        out.get(self.start + 1..self.name_end - 1).unwrap_or_default()
    }
}

/// A byte of UTF-8 as a number that orders names as their UTF-16 code units do. The orders differ only
/// where U+E000 to U+FFFF (first byte EE or EF) meet the characters above them (F0 to F4), which
/// UTF-16 writes with surrogates, that is below U+E000.
fn rank(byte: u8) -> u8 {
    if byte == 0xEE || byte == 0xEF { byte | 0x10 } else { byte }
}

/// Puts the members of an object, written from `start` to the end of `out`, in order.
pub(super) fn put_in_order(members: &mut [Member], start: usize, out: &mut Vec<u8>) -> Result<(), JsonError> {
    members.sort_unstable_by(|a, b| a.compare(b, out).then(a.offset.cmp(&b.offset)));
    for pair in members.windows(2) {
        if let [a, b] = pair
            && a.compare(b, out).is_eq()
        {
            return Err(JsonError::DuplicateName(b.offset));
        }
    }
    let unordered_end = out.len();
    for member in &*members {
        if out.len() > unordered_end {
            out.push(b',');
        }
        out.extend_from_within(member.start..member.end);
    }
    out.drain(start..unordered_end);
    Ok(())
}
