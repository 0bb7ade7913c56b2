//! Whether text is JSON (RFC 8259), and where its objects and arrays end.
//!
//! One pass, without recursion and without a tree. Apart because everything a merchant answers passes
//! through here, and most of it is never opened.

use smallvec::SmallVec;

use crate::acp::canonical::plain_run;

/// The objects and arrays of a JSON text, in the order in which they begin; none where there are too
/// many. Holds no byte of it.
pub type Outline = Vec<Container>;

/// The most objects and arrays that are noted: a hostile body may consist of little else, and must not
/// take many times its own size.
const MAX_CONTAINERS: usize = 4096;

/// An object or array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Container {
    /// Bytes from its first bracket to its last.
    length: u32,
    /// Objects and arrays within it, at any depth: those that follow it in the outline.
    inside: u32,
}

impl Container {
    /// Bytes from its first bracket to its last.
    pub fn length(self) -> usize {
        usize::try_from(self.length).unwrap_or(usize::MAX)
    }

    /// Objects and arrays within it, at any depth: those that follow it in the outline.
    pub fn inside(self) -> usize {
        usize::try_from(self.inside).unwrap_or(usize::MAX)
    }
}

/// The outline of a text that is one JSON value; `None` when it is anything else, or 4 GiB long.
pub fn outline(text: &str) -> Option<Outline> {
    u32::try_from(text.len()).ok()?;
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    let mut drawing = Drawing::default();
    loop {
        reader.pass_space();
        match reader.bytes.get(reader.at) {
            Some(b'{') => {
                drawing.begin(b'{', reader.at);
                reader.at += 1;
                if reader.next() != Some(b'}') {
                    if !reader.pass_name() {
                        return None;
                    }
                    continue;
                }
                reader.at += 1;
                drawing.end(reader.at);
            }
            Some(b'[') => {
                drawing.begin(b'[', reader.at);
                reader.at += 1;
                if reader.next() != Some(b']') {
                    continue;
                }
                reader.at += 1;
                drawing.end(reader.at);
            }
            _ if reader.pass_scalar() => {}
            _ => return None,
        }
        // After a value: the end of what it stands in, or another one.
        loop {
            let next = reader.next();
            let Some(open) = drawing.bracket() else {
                return next.is_none().then_some(drawing.containers);
            };
            reader.at += 1;
            match (open, next) {
                (b'{', Some(b',')) if reader.pass_name() => break,
                (b'[', Some(b',')) => break,
                (b'{', Some(b'}')) | (b'[', Some(b']')) => drawing.end(reader.at),
                _ => return None,
            }
        }
    }
}

/// An outline under way.
struct Drawing {
    /// What has not been closed.
    open: SmallVec<[Open; 32]>,
    containers: Outline,
    too_many: bool,
}

/// A bracket that has not been closed.
struct Open {
    bracket: u8,
    /// Its container's place among the containers.
    place: u32,
    /// Its offset.
    start: u32,
}

impl Default for Drawing {
    fn default() -> Self {
        Self { open: SmallVec::new(), containers: Vec::with_capacity(64), too_many: false }
    }
}

impl Drawing {
    /// The innermost bracket that is open.
    fn bracket(&self) -> Option<u8> {
        self.open.last().map(|open| open.bracket)
    }

    fn begin(&mut self, bracket: u8, at: usize) {
        if self.containers.len() == MAX_CONTAINERS {
            (self.containers, self.too_many) = (Vec::new(), true);
        }
        self.open.push(Open { bracket, place: small(self.containers.len()), start: small(at) });
        if !self.too_many {
            self.containers.push(Container { length: 0, inside: 0 });
        }
    }

    fn end(&mut self, at: usize) {
        let Some(Open { place, start, .. }) = self.open.pop() else { return };
        if self.too_many {
            return;
        }
        let all = small(self.containers.len());
        if let Some(ended) = usize::try_from(place).ok().and_then(|place| self.containers.get_mut(place)) {
            *ended = Container { length: small(at) - start, inside: all - place - 1 };
        }
    }
}

/// An offset or a count within a text whose length fits.
fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is not white space; the reader stands on it.
    fn next(&mut self) -> Option<u8> {
        self.pass_space();
        self.bytes.get(self.at).copied()
    }

    fn pass_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// A member's name and its colon.
    fn pass_name(&mut self) -> bool {
        if self.next() != Some(b'"') || !self.pass_string() || self.next() != Some(b':') {
            return false;
        }
        self.at += 1;
        true
    }

    fn pass_scalar(&mut self) -> bool {
        match self.bytes.get(self.at) {
            Some(b'"') => self.pass_string(),
            Some(b'-' | b'0'..=b'9') => self.pass_number(),
            Some(b't') => self.pass_literal(b"true"),
            Some(b'f') => self.pass_literal(b"false"),
            Some(b'n') => self.pass_literal(b"null"),
            _ => false,
        }
    }

    fn pass_string(&mut self) -> bool {
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let plain = plain_run(rest);
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => return true,
                Some(b'\\') if self.pass_escape() => {}
                _ => return false,
            }
        }
    }

    fn pass_escape(&mut self) -> bool {
        let escaped = self.bytes.get(self.at);
        self.at += 1;
        match escaped {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
            Some(b'u') => {
                let digits = self.bytes.get(self.at..self.at + 4);
                self.at += 4;
                digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            }
            _ => false,
        }
    }

    fn pass_number(&mut self) -> bool {
        self.pass_if(b"-");
        let whole = if self.pass_if(b"0") { true } else { self.pass_digits() };
        let fraction = !self.pass_if(b".") || self.pass_digits();
        let exponent = !self.pass_if(b"eE") || {
            self.pass_if(b"+-");
            self.pass_digits()
        };
        whole && fraction && exponent
    }

    fn pass_if(&mut self, any: &[u8]) -> bool {
        let is_one = self.bytes.get(self.at).is_some_and(|byte| any.contains(byte));
        self.at += usize::from(is_one);
        is_one
    }

    /// Digits, one at least.
    fn pass_digits(&mut self) -> bool {
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at > start
    }

    fn pass_literal(&mut self, literal: &[u8]) -> bool {
        let is_it = self.bytes.get(self.at..).is_some_and(|rest| rest.starts_with(literal));
        self.at += literal.len();
        is_it
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn agrees(text: &str) -> bool {
        outline(text).is_some() == serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn an_outline_tells_where_each_object_and_array_ends_and_what_it_holds() {
        let drawn = |text: &str| -> Vec<(usize, usize)> {
            outline(text).unwrap().into_iter().map(|one| (one.length(), one.inside())).collect()
        };
        assert_eq!(drawn("7"), []);
        assert_eq!(drawn(" {} "), [(2, 0)]);
        assert_eq!(drawn(r#"{"a":[1,{"]":"}"}],"b":[ ]}"#), [(27, 3), (13, 1), (9, 0), (3, 0)]);
        let many = |inside: usize| format!("[{}{{}}]", "[],".repeat(inside - 1));
        assert_eq!(drawn(&many(MAX_CONTAINERS - 1)).len(), MAX_CONTAINERS);
        assert_eq!(drawn(&many(MAX_CONTAINERS)), [], "nothing is kept of too many");
    }

    #[test]
    fn it_is_json_when_an_independent_reader_says_so() {
        for text in [
            "",
            " ",
            "{}",
            " { } ",
            "[]",
            "[ ]",
            "null",
            "nul",
            "nulll",
            "true",
            "false ",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            "1.0",
            ".1",
            "1e1",
            "1E+1",
            "1e",
            "1e-",
            "\"\"",
            "\"",
            "\"\\\"",
            "\"\\u12fG\"",
            "\"\\u12ff\"",
            "\"\\x\"",
            "\"\n\"",
            "{\"a\":1}",
            "{\"a\":1,}",
            "{\"a\" : [ 1 , {\"b\":null} ] }",
            "{\"a\"}",
            "{a:1}",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1]]",
            "[[1]",
            "{\"a\":1}{",
            "[}",
            "{]",
            "{\"a\":1]",
            "\u{feff}1",
            "1 1",
            "\"\u{e9}\"",
            "\u{e9}",
            "{\"a\":1 \"b\":2}",
            "[\"a\":1]",
            "{1:1}",
            "\"\\ud800\"",
            "-1.5e300",
            "1,",
        ] {
            assert!(agrees(text), "{text:?}");
        }
        assert!(
            outline(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).is_some(),
            "nesting costs no stack"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_an_independent_reader_judges_it(text in any::<String>()) {
            prop_assert!(agrees(&text));
        }

        #[test]
        fn what_looks_like_json_is_judged_so_too(
            text in "([\\[\\]{},:\"\\\\ \n0-9eE+.u-]|true|false|null|\"a\"|\"a\":|\\\\u00e9|\\\\n){0,24}"
        ) {
            prop_assert!(agrees(&text));
        }

        #[test]
        fn json_with_one_byte_changed_is_judged_so_too(
            numbers in proptest::collection::vec(any::<f64>(), 0..3), text in any::<String>(), at: usize, by in " -~"
        ) {
            let json = serde_json::json!({"numbers": numbers, "text": text, "more": [{"a": null}, true]});
            let mut json = json.to_string();
            let at = at % json.len();
            if json.is_char_boundary(at) && json.is_char_boundary(at + 1) {
                json.replace_range(at..=at, &by);
            }
            prop_assert!(agrees(&json));
        }
    }
}
