//! Media types as RFC 9110 §8.3.1 writes them, of requests and of merchants' answers.

use std::borrow::Cow;

/// A media type. Its names are as received: they are compared without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaType<'a> {
    /// `type/subtype`.
    pub essence: &'a str,
    /// Name and value, unescaped, in order.
    pub parameters: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl<'a> MediaType<'a> {
    /// Reads a header's value; `None` when it is no media type.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { rest: value.trim_ascii() };
        let whole = reader.rest;
        reader.token()?;
        reader.eat(b'/').then(|| reader.token())??;
        let length = whole.len() - reader.rest.len();
        let essence = std::str::from_utf8(whole.get(..length)?).ok()?;
        let mut parameters = Vec::new();
        loop {
            reader.skip_space();
            if reader.rest.is_empty() {
                return Some(Self { essence, parameters });
            }
            reader.eat(b';').then_some(())?;
            reader.skip_space();
            // A parameter may be left out between two semicolons, or behind the last.
            if reader.rest.is_empty() || reader.rest.starts_with(b";") {
                continue;
            }
            let name = reader.token()?;
            reader.eat(b'=').then_some(())?;
            let value = match reader.eat(b'"') {
                true => reader.quoted()?,
                false => Cow::Borrowed(reader.token()?.as_bytes()),
            };
            parameters.push((name, value));
        }
    }

    /// Whether it is this one, whatever its parameters.
    pub fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }

    /// The values of a parameter.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = self.parameters.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_ref())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn take(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|b| !wanted(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(length).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.take(|b| matches!(b, b' ' | b'\t'));
    }

    /// RFC 9110 §5.6.2.
    fn token(&mut self) -> Option<&'a str> {
        let token = self.take(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        std::str::from_utf8(token).ok().filter(|token| !token.is_empty())
    }

    /// What stands behind the opening quotation mark (RFC 9110 §5.6.4).
    fn quoted(&mut self) -> Option<Cow<'a, [u8]>> {
        let may_stand = |b: u8| b == b'\t' || b >= b' ' && b != 0x7f;
        let plain = |b: u8| may_stand(b) && b != b'"' && b != b'\\';
        let mut value = Cow::Borrowed(self.take(plain));
        loop {
            if self.eat(b'"') {
                return Some(value);
            }
            self.eat(b'\\').then_some(())?;
            let (escaped, rest) = self.rest.split_first()?;
            may_stand(*escaped).then_some(())?;
            self.rest = rest;
            value.to_mut().push(*escaped);
            value.to_mut().extend_from_slice(self.take(plain));
        }
    }
}

#[cfg(test)]
mod tests {
    use mediatype::MediaType as Oracle;
    use proptest::prelude::*;

    use super::*;

    type Read = (String, Vec<(String, Vec<u8>)>);

    fn ours(text: &str) -> Option<Read> {
        let read = MediaType::parse(text.as_bytes())?;
        let parameters = read.parameters.iter().map(|(name, value)| (name.to_lowercase(), value.to_vec()));
        Some((read.essence.to_lowercase(), parameters.collect()))
    }

    fn theirs(text: &str) -> Option<Read> {
        let read = Oracle::parse(text.trim_matches([' ', '\t'])).ok()?;
        let parameters = read
            .params
            .iter()
            .map(|(name, value)| (name.as_str().to_lowercase(), value.unquoted_str().as_bytes().to_vec()));
        Some((read.essence().to_string().to_lowercase(), parameters.collect()))
    }

    #[test]
    fn a_parameter_may_be_quoted_escaped_or_left_out() {
        for (text, value) in [
            (r#"a/b;c="d""#, "d"),
            (r#"a/b ; c="d;e=\"f\\""#, r#"d;e="f\"#),
            ("a/b;;\t;c=d ; ", "d"),
            ("a/b;c=\"\"", ""),
        ] {
            assert_eq!(ours(text), Some(("a/b".into(), vec![("c".into(), value.into())])), "{text}");
        }
        assert_eq!(ours(" a/b; "), Some(("a/b".into(), vec![])));
    }

    #[test]
    fn what_is_no_media_type_is_refused() {
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a /b",
            "a/b c",
            "a/b;c",
            "a/b;c=",
            "a/b;c =d",
            "a/b;c= d",
            "a/b;c=\"d",
            "a/b;c=\"d\"e",
            "a/b;c=\"d\\",
            "a/b,c/d",
            "a/b;c=d\u{7f}",
            "a/b;c=\"\u{7f}\"",
        ] {
            assert_eq!(ours(text), None, "{text}");
        }
    }

    proptest! {
        /// Of the oracle's own: it bounds names, takes an empty value, and refuses a parameter left out
        /// before another.
        #[test]
        fn a_media_type_is_read_as_an_independent_reader_reads_it(
            kind in "[a-zA-Z]{1,3}", subtype in "[a-zA-Z.+-]{0,1}[a-z]{1,4}",
            parameters in proptest::collection::vec(
                ("[ \t]{0,2}", "[ \t]{0,1}", "[a-zA-Z]{1,4}", "([a-zA-Z0-9!#.+_-]{1,5}|\"([ -!#-\\[\\]-~]|\\\\[ -~]){0,6}\")"),
                0..4,
            ),
        ) {
            let mut text = format!("{kind}/x{subtype}");
            for (before, behind, name, value) in &parameters {
                text.push_str(&format!("{before};{behind}{name}={value}"));
            }
            prop_assert!(ours(&text).is_some(), "{text}");
            prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
        }

        #[test]
        fn what_is_nearly_a_media_type_is_taken_or_refused_as_by_an_independent_reader(
            text in "[ab]{0,2}/?[ab]{0,2}( ?; ?[ab]{0,2}=?(\"[ab\\\\;\"]{0,4}\"?|[ab]{1,3}))?[ ;\"]?"
        ) {
            // The oracle refuses a parameter that is left out before another.
            prop_assume!(!text.replace(' ', "").contains(";;"));
            prop_assert_eq!(ours(&text), theirs(&text), "{}", text);
        }
    }
}
