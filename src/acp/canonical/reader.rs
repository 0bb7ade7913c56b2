//! The structure of a document: one descent over the bytes that writes the form as it goes. Members
//! are written in the order they come; an object that was not in order is put in order at its end.

use super::member::{Member, put_in_order};
use super::number::{self, Decimal};
use super::text::{Place, read_text};
use super::{JsonError, MAX_DEPTH, MAX_NODES};
use std::cmp::Ordering;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// How numbers are written; everything else is the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As ECMAScript prints a double (RFC 8785 §3.2.2.3).
    Rfc8785,
    /// Whole digits and a power of ten.
    ExactDecimals,
}

/// Appends `input` in `form` to `out`, or leaves `out` as it was.
pub(super) fn read(input: &[u8], out: &mut Vec<u8>, form: Form) -> Result<(), JsonError> {
    if input.starts_with(BYTE_ORDER_MARK) {
        return Err(JsonError::ByteOrderMark(0));
    }
    // One check for all strings is quicker than one a string, and leaves plain bytes to the reader.
    std::str::from_utf8(input).map_err(|error| JsonError::InvalidUtf8(error.valid_up_to()))?;

    let before = out.len();
    out.reserve(input.len());
    let mut reader = Reader { input, at: 0, out, form, nodes: 0, members: Vec::with_capacity(32) };
    let result = reader.document();
    if result.is_err() {
        out.truncate(before);
    }
    result
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    form: Form,
    nodes: usize,
    /// The members written so far of every object that is still open, the innermost object's last.
    members: Vec<Member>,
}

impl Reader<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        self.value(0)?;
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(JsonError::TrailingBytes(self.at)),
        }
    }

    /// Reads a value that stands inside `depth` arrays and objects.
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        let first = self.next_byte();
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(JsonError::TooManyNodes(self.at));
        }
        match first {
            Some(b'"') => self.text(Place::Value).map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            _ => Err(self.unexpected()),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(b'{', depth)?;
        let start = self.out.len();
        let first_member = self.members.len();
        let mut in_order = true;
        if self.next_byte() == Some(b'}') {
            self.step(b'}');
            return Ok(());
        }
        loop {
            if self.next_byte() != Some(b'"') {
                return Err(self.unexpected());
            }
            let mut member = self.name()?;
            if in_order && let Some(previous) = self.members.get(first_member..).and_then(<[_]>::last) {
                match previous.compare(&member, self.out) {
                    Ordering::Less => {}
                    Ordering::Equal => return Err(JsonError::DuplicateName(member.offset)),
                    Ordering::Greater => in_order = false,
                }
            }
            self.expect(b':')?;
            self.value(depth)?;
            member.end = self.out.len();
            self.members.push(member);
            match self.next_byte() {
                Some(b',') => self.step(b','),
                Some(b'}') => break,
                _ => return Err(self.unexpected()),
            }
        }
        if !in_order {
            let members = self.members.get_mut(first_member..).unwrap_or_default();
            put_in_order(members, start, self.out)?;
        }
        self.members.truncate(first_member);
        self.step(b'}');
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(b'[', depth)?;
        if self.next_byte() == Some(b']') {
            self.step(b']');
            return Ok(());
        }
        loop {
            self.value(depth)?;
            match self.next_byte() {
                Some(b',') => self.step(b','),
                Some(b']') => break,
                _ => return Err(self.unexpected()),
            }
        }
        self.step(b']');
        Ok(())
    }

    /// Reads a member's name; the member's end is not known yet.
    fn name(&mut self) -> Result<Member, JsonError> {
        let (offset, start) = (self.at, self.out.len());
        let escaped = self.text(Place::Name)?;
        let name_end = self.out.len();
        Ok(Member { start, name_end, end: name_end, offset, escaped })
    }

    /// Reads a string; gives whether its form has escapes.
    fn text(&mut self, place: Place) -> Result<bool, JsonError> {
        let (escaped, end) = read_text(self.input, self.at, place, self.out)?;
        self.at = end;
        Ok(escaped)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if let Some(short) = number::short_integer(self.input, self.at) {
            self.at += short.len();
            match self.form {
                Form::Rfc8785 => self.out.extend_from_slice(short),
                Form::ExactDecimals => number::write_short_integer_exactly(short, self.out),
            }
            return Ok(());
        }
        let (decimal, end) = Decimal::read(self.input, self.at)?;
        if !decimal.is_shortest_of_its_double() {
            return Err(JsonError::InexactNumber(self.at));
        }
        self.at = end;
        match self.form {
            Form::Rfc8785 => decimal.write_as_ecmascript(self.out),
            Form::ExactDecimals => decimal.write_exactly(self.out),
        }
        Ok(())
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), JsonError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal) {
            return Err(JsonError::Syntax(self.at));
        }
        self.at += literal.len();
        self.out.extend_from_slice(literal);
        Ok(())
    }

    fn open(&mut self, bracket: u8, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep(self.at));
        }
        self.step(bracket);
        Ok(())
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.next_byte() != Some(byte) {
            return Err(self.unexpected());
        }
        self.step(byte);
        Ok(())
    }

    /// Takes the byte at hand, known to be `byte`, and writes it.
    fn step(&mut self, byte: u8) {
        self.at += 1;
        self.out.push(byte);
    }

    /// The next byte that is not white space; the reader stands on it.
    fn next_byte(&mut self) -> Option<u8> {
        loop {
            match self.input.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    fn unexpected(&self) -> JsonError {
        if self.at < self.input.len() {
            JsonError::Syntax(self.at)
        } else {
            JsonError::UnexpectedEnd(self.input.len())
        }
    }
}
