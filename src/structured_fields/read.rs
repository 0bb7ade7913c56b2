//! Reading a dictionary of items and inner lists strictly.
//!
//! The received bytes of each member are kept, because signatures are over bytes.
//!
//! Stricter than the RFC in one point: a key that stands twice is refused instead of overwritten.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use smallvec::SmallVec;

use super::write::is_in_key;
use super::{FieldError as Error, MAX_FIELD_BYTES, MAX_ITEMS};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Longest key of a dictionary or parameter, in bytes.
const MAX_KEY_BYTES: usize = 64;
/// Parameters of one item or inner list.
const MAX_PARAMETERS: usize = 16;
/// Of a signature.
const USUAL_PARAMETERS: usize = 6;
/// Members of one dictionary.
const MAX_MEMBERS: usize = 32;

/// A bare item (RFC 8941 §3.3). Types that no signature header needs are checked and not kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bare<'a> {
    Integer(i64),
    String(Cow<'a, str>),
    Bytes(Vec<u8>),
    True,
    /// A token, a decimal, a date or `?0`.
    Other,
}

/// Parameters in the order in which they stand; keys are unique.
pub(crate) type Parameters<'a> = Vec<(&'a str, Bare<'a>)>;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) bare: Bare<'a>,
    pub(crate) parameters: Parameters<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Bare(Bare<'a>),
    InnerList(Vec<Item<'a>>),
}

/// A member of a dictionary.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Value<'a>,
    pub(crate) parameters: Parameters<'a>,
    /// Value and parameters as received; empty for a bare `key`, which stands for true.
    pub(crate) raw: &'a str,
}

/// The members of a dictionary; few have more than one.
pub(crate) type Members<'a> = SmallVec<[Member<'a>; 1]>;

/// Reads a dictionary (RFC 8941 §4.2.2).
pub(crate) fn dictionary(text: &str) -> Result<Members<'_>, Error> {
    if text.len() > MAX_FIELD_BYTES {
        return Err(Error::TooLarge);
    }
    let mut reader = Reader { rest: text.trim_matches(' ') };
    let mut members = Members::new();
    if reader.rest.is_empty() {
        return Ok(members);
    }
    loop {
        if members.len() == MAX_MEMBERS {
            return Err(Error::TooLarge);
        }
        let member = reader.member()?;
        if members.iter().any(|known| known.key == member.key) {
            return Err(Error::Repeated);
        }
        members.push(member);
        reader.skip(|b| matches!(b, b' ' | b'\t'));
        if reader.rest.is_empty() {
            return Ok(members);
        }
        reader.expect(b',')?;
        reader.skip(|b| matches!(b, b' ' | b'\t'));
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn member(&mut self) -> Result<Member<'a>, Error> {
        let key = self.key()?;
        let has_value = self.eat(b'=');
        let start = self.rest;
        let value = match (has_value, self.peek()) {
            (false, _) => Value::Bare(Bare::True),
            (true, Some(b'(')) => Value::InnerList(self.inner_list()?),
            (true, _) => Value::Bare(self.bare()?),
        };
        let parameters = self.parameters()?;
        let raw = start.get(..start.len() - self.rest.len()).ok_or(Error::Malformed)?;
        Ok(Member { key, value, parameters, raw })
    }

    fn inner_list(&mut self) -> Result<Vec<Item<'a>>, Error> {
        self.expect(b'(')?;
        let mut items = Vec::with_capacity(8);
        loop {
            self.skip(|b| b == b' ');
            if self.eat(b')') {
                return Ok(items);
            }
            if items.len() == MAX_ITEMS {
                return Err(Error::TooLarge);
            }
            items.push(Item { bare: self.bare()?, parameters: self.parameters()? });
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(Error::Malformed);
            }
        }
    }

    fn parameters(&mut self) -> Result<Parameters<'a>, Error> {
        let mut parameters: Parameters<'a> = Vec::new();
        while self.eat(b';') {
            self.skip(|b| b == b' ');
            let key = self.key()?;
            let value = if self.eat(b'=') { self.bare()? } else { Bare::True };
            if parameters.iter().any(|(known, _)| *known == key) {
                return Err(Error::Repeated);
            }
            if parameters.len() == MAX_PARAMETERS {
                return Err(Error::TooLarge);
            }
            if parameters.is_empty() {
                parameters.reserve(USUAL_PARAMETERS);
            }
            parameters.push((key, value));
        }
        Ok(parameters)
    }

    fn key(&mut self) -> Result<&'a str, Error> {
        if !self.peek().is_some_and(|b| b.is_ascii_lowercase() || b == b'*') {
            return Err(Error::Malformed);
        }
        let key = self.take(is_in_key);
        if key.len() > MAX_KEY_BYTES { Err(Error::TooLarge) } else { Ok(key) }
    }

    fn bare(&mut self) -> Result<Bare<'a>, Error> {
        match self.peek().ok_or(Error::Malformed)? {
            b'"' => self.string().map(Bare::String),
            b':' => self.bytes().map(Bare::Bytes),
            b'?' => self.boolean(),
            b'-' | b'0'..=b'9' => self.number(),
            b'@' => {
                self.expect(b'@')?;
                if matches!(self.number()?, Bare::Integer(_)) {
                    Ok(Bare::Other)
                } else {
                    Err(Error::Malformed)
                }
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'*' => {
                self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b));
                Ok(Bare::Other)
            }
            _ => Err(Error::Malformed),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        self.expect(b'"')?;
        let plain = self.take(is_plain_in_string);
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut unescaped = plain.to_owned();
        loop {
            if self.eat(b'\\') {
                let escaped = self.peek().filter(|b| matches!(b, b'"' | b'\\')).ok_or(Error::Malformed)?;
                self.expect(escaped)?;
                unescaped.push(char::from(escaped));
            } else if self.eat(b'"') {
                return Ok(Cow::Owned(unescaped));
            }
            let plain = self.take(is_plain_in_string);
            if plain.is_empty() && !matches!(self.peek(), Some(b'\\' | b'"')) {
                return Err(Error::Malformed);
            }
            unescaped.push_str(plain);
        }
    }

    /// Base64, with or without padding (RFC 9651 §4.2.7). Stray bits are refused, as RFC 4648 §3.5
    /// allows: nobody may change a signature's spelling at will.
    fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        self.expect(b':')?;
        let encoded = self.take(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
        self.expect(b':')?;
        BASE64.decode(encoded).map_err(|_| Error::Malformed)
    }

    fn boolean(&mut self) -> Result<Bare<'a>, Error> {
        self.expect(b'?')?;
        if self.eat(b'1') {
            return Ok(Bare::True);
        }
        self.expect(b'0').map(|()| Bare::Other)
    }

    /// At most 15 digits; a decimal at most 12 before and 3 after its point.
    fn number(&mut self) -> Result<Bare<'a>, Error> {
        let negative = self.eat(b'-');
        let whole = self.take(|b| b.is_ascii_digit());
        if self.eat(b'.') {
            let fraction = self.take(|b| b.is_ascii_digit());
            let fits = (1..=12).contains(&whole.len()) && (1..=3).contains(&fraction.len());
            return if fits { Ok(Bare::Other) } else { Err(Error::Malformed) };
        }
        if whole.len() > 15 {
            return Err(Error::Malformed);
        }
        let value: i64 = whole.parse().map_err(|_| Error::Malformed)?;
        Ok(Bare::Integer(if negative { -value } else { value }))
    }

    fn peek(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let rest = self.rest.strip_prefix(char::from(byte));
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.eat(byte) { Ok(()) } else { Err(Error::Malformed) }
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        self.take(wanted);
    }

    /// The longest start of the rest made of `wanted` bytes, all ASCII.
    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let length = self.rest.bytes().position(|b| !b.is_ascii() || !wanted(b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or(("", self.rest));
        self.rest = rest;
        taken
    }
}

fn is_plain_in_string(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Member<'_>, Error> {
        dictionary(text).map(|mut members| members.remove(0))
    }

    #[test]
    fn members_keep_their_received_bytes() {
        let members = dictionary("sig1=( \"a\"  \"b\";key=\"x\" );created=1 ,\tb=?1;p, c").unwrap();
        let raw: Vec<_> = members.iter().map(|member| (member.key, member.raw)).collect();
        assert_eq!(raw, [("sig1", "( \"a\"  \"b\";key=\"x\" );created=1"), ("b", "?1;p"), ("c", "")]);
    }

    #[test]
    fn strings_are_unescaped_and_bytes_are_decoded() {
        assert_eq!(one(r#"a="x\"\\y""#).unwrap().value, Value::Bare(Bare::String("x\"\\y".into())));
        assert_eq!(one("a=:AQI=:").unwrap().value, Value::Bare(Bare::Bytes(vec![1, 2])));
        assert_eq!(one("a=:AQI:").unwrap().value, Value::Bare(Bare::Bytes(vec![1, 2])));
        assert_eq!(one("a=-42").unwrap().value, Value::Bare(Bare::Integer(-42)));
    }

    #[test]
    fn what_is_not_a_dictionary_is_refused() {
        for text in [
            "A=1",
            "a=",
            "a=(",
            "a=(\"x\"\"y\")",
            "a=\"",
            "a=\"\\x\"",
            "a=\"é\"",
            "a=:AQJ=:",
            "a=:A_I=:",
            "a=1,",
            "a=1 b=2",
            "a=1;",
            "a=1;B",
            "a=1.",
            "a=1.2345",
            "a=--1",
            "a=1234567890123456",
            "a=?2",
            "a=@x",
            "a=%\"x\"",
            "a=(1",
            "a=1\n",
            "a=(\t1)",
            "=1",
            ",",
        ] {
            assert!(dictionary(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_stands_twice() {
        for text in ["a=1, a=2", "a=1;p=1;p=2", "a=(1;p;p)"] {
            assert_eq!(dictionary(text), Err(Error::Repeated), "{text}");
        }
    }

    #[test]
    fn size_is_bounded() {
        let many = |count: usize| (0..count).map(|n| format!("a{n}")).collect::<Vec<_>>().join(",");
        assert_eq!(dictionary(&many(MAX_MEMBERS)).unwrap().len(), MAX_MEMBERS);
        for text in [
            many(MAX_MEMBERS + 1),
            format!("a=({})", "1 ".repeat(MAX_ITEMS + 1)),
            format!("a=1{}", (0..=MAX_PARAMETERS).map(|n| format!(";p{n}")).collect::<String>()),
            "a".repeat(MAX_KEY_BYTES + 1),
            " ".repeat(MAX_FIELD_BYTES + 1),
        ] {
            assert_eq!(dictionary(&text), Err(Error::TooLarge), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,80}", near in "[a-c1=();:?\"\\\\, .-]{0,40}") {
            let _ = dictionary(&text);
            for member in dictionary(&near).unwrap_or_default() {
                prop_assert!(near.contains(member.raw));
            }
        }
    }
}
