//! JSON as borrowed text, opened one level at a time. Apart because bodies hold card data: a tree
//! of owned strings would leave copies behind that nobody wipes, and would lose the exact numbers.

use std::borrow::Cow;

use smallvec::SmallVec;
use zeroize::Zeroizing;

use super::syntax::{Container, Outline, outline};
use super::walk::Walk;

/// The most members or elements read of one object or array: more than any body within the
/// gateway's limit of nodes has.
const MAX_ENTRIES: usize = 10_000;

/// A whole body that is JSON: checked once, before anything in it is opened.
pub struct Document<'a> {
    text: &'a str,
    outline: Outline,
}

/// A JSON value, still text, and known to be valid. Not printable: it may be a card number.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    text: &'a str,
    /// The objects and arrays within it.
    inside: &'a [Container],
}

/// An object's members in order, their names unescaped and distinct.
pub struct Object<'a>(Members<'a>);

/// As many as nearly every object has stand where the object does.
type Members<'a> = SmallVec<[(Cow<'a, str>, Value<'a>); 16]>;

/// The elements of an array.
pub type Elements<'a> = SmallVec<[Value<'a>; 8]>;

/// Text that is wiped if it had to be copied out of the body to be unescaped.
pub enum Text<'a> {
    /// As it stands in the body.
    Borrowed(&'a str),
    /// Unescaped.
    Owned(Zeroizing<String>),
}

/// White space (RFC 8259 §2).
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Owned(text) => text,
        }
    }

    /// A copy.
    pub fn to_owned(&self) -> String {
        self.as_str().to_owned()
    }
}

impl<'a> Document<'a> {
    /// Reads a body; `None` when it is not UTF-8 or not one JSON value.
    pub fn of_body(body: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?.trim_matches(SPACE);
        Some(Self { text, outline: outline(text)? })
    }

    /// Its value.
    pub fn value(&self) -> Value<'_> {
        Value::whole(self.text, &self.outline)
    }

    /// What is worth keeping of it, for [`Value::of_outlined`].
    pub fn into_outline(self) -> Outline {
        self.outline
    }
}

impl<'a> Value<'a> {
    /// The value of a body that was read before.
    pub fn of_outlined(body: &'a [u8], outline: &'a Outline) -> Option<Self> {
        std::str::from_utf8(body).ok().map(|text| Self::whole(text.trim_matches(SPACE), outline))
    }

    const fn part((text, inside): (&'a str, &'a [Container])) -> Self {
        Self { text, inside }
    }

    /// The first of an outline is the value itself, if it is an object or array.
    fn whole(text: &'a str, outline: &'a Outline) -> Self {
        Self { text, inside: outline.get(1..).unwrap_or_default() }
    }

    /// The JSON text of the value.
    pub const fn raw(self) -> &'a str {
        self.text
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// Whether it is an object, whatever its members.
    pub fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    /// `true` or `false`.
    pub fn boolean(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// An object; `None` for anything else, a repeated member name, or too many members.
    pub fn object(self) -> Option<Object<'a>> {
        let mut walk = Walk::into(self.text, self.inside, '{')?;
        let mut members = Members::new();
        while walk.has_more() {
            if members.len() == MAX_ENTRIES {
                return None;
            }
            let name = match Self::part(walk.value()?).text()? {
                Text::Borrowed(name) => Cow::Borrowed(name),
                Text::Owned(name) => Cow::Owned(name.as_str().to_owned()),
            };
            members.push((name, Self::part(walk.value()?)));
        }
        (!repeats(&members)).then_some(Object(members))
    }

    /// An array; `None` for anything else or too many elements.
    pub fn array(self) -> Option<Elements<'a>> {
        let mut walk = Walk::into(self.text, self.inside, '[')?;
        let mut elements = Elements::new();
        while walk.has_more() {
            if elements.len() == MAX_ENTRIES {
                return None;
            }
            elements.push(Self::part(walk.value()?));
        }
        Some(elements)
    }

    /// A string; `None` for anything else and for lone surrogates.
    pub fn text(self) -> Option<Text<'a>> {
        let inside = self.text.strip_prefix('"')?.strip_suffix('"')?;
        if inside.contains('\\') { unescape(inside).map(Text::Owned) } else { Some(Text::Borrowed(inside)) }
    }

    /// A number that is an integer, written in any way (`10`, `10.0`, `1e1`); saturates at the ends
    /// of `i64`. `None` for anything else.
    pub fn integer(self) -> Option<i64> {
        let (negative, magnitude) = match self.text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, self.text),
        };
        if !magnitude.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        let (mantissa, exponent) = match magnitude.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (magnitude, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        let count = whole.len() + fraction.len();
        let dropped = digits().rev().take_while(|digit| *digit == b'0').count();
        let leading = digits().take_while(|digit| *digit == b'0').count();
        if leading == count {
            return Some(0);
        }
        let dropped_scale = i64::try_from(dropped).ok()?;
        let scale = i64::from(exponent) - i64::try_from(fraction.len()).ok()? + dropped_scale;
        let zeros = usize::try_from(scale).ok()?;
        let saturated = if negative { i64::MIN } else { i64::MAX };
        let significant = count - leading - dropped;
        if zeros > 19 || significant > 19 {
            return Some(saturated);
        }
        let written = digits().skip(leading).take(significant).chain(std::iter::repeat_n(b'0', zeros));
        let sign = if negative { -1 } else { 1 };
        // Thirty-eight digits at most.
        let read = written.fold(0_i128, |read, digit| read * 10 + i128::from(digit - b'0'));
        Some(i64::try_from(sign * read).unwrap_or(saturated))
    }
}

impl<'a> Object<'a> {
    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<Value<'a>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The member of that name, unless it is `null`.
    pub fn present(&self, name: &str) -> Option<Value<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }

    /// The members in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, Value<'a>)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }
}

/// Unescapes the inside of a string that is valid JSON. The result is never longer than its escaped
/// form, so the buffer never moves and leaves no copy behind.
fn unescape(escaped: &str) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(String::with_capacity(escaped.len()));
    let mut rest = escaped;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut characters = after.chars();
        let character = match characters.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let unit = code_unit(&mut characters)?;
                let units = if (0xd800..0xdc00).contains(&unit) {
                    if (characters.next()?, characters.next()?) != ('\\', 'u') {
                        return None;
                    }
                    [unit, code_unit(&mut characters)?]
                } else {
                    [unit, 0]
                };
                char::decode_utf16(units).next()?.ok()?
            }
            literal @ ('"' | '\\' | '/') => literal,
            _ => return None,
        };
        out.push(character);
        rest = characters.as_str();
    }
    out.push_str(rest);
    Some(out)
}

/// Four hexadecimal digits.
fn code_unit(characters: &mut std::str::Chars<'_>) -> Option<u16> {
    (0..4).try_fold(0u16, |unit, _| {
        let digit = u16::try_from(characters.next()?.to_digit(16)?).ok()?;
        Some((unit << 4) | digit)
    })
}

fn repeats(members: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    // Few names are compared with one another sooner than sorted.
    const FEW: usize = 24;
    if members.len() <= FEW {
        let mut rest = members.iter();
        return std::iter::from_fn(|| rest.next().map(|(name, _)| (name, rest.clone())))
            .any(|(name, mut others)| others.any(|(other, _)| other == name));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair.first() == pair.last())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn integer(text: &str) -> Option<i64> {
        Document::of_body(text.as_bytes()).unwrap().value().integer()
    }

    #[test]
    fn an_integer_is_one_however_it_is_written() {
        for text in ["10", "10.0", "1e1", "1.0E+1", "100e-1", "0.1e2"] {
            assert_eq!(integer(text), Some(10), "{text}");
        }
        assert_eq!((integer("0.0"), integer("-0"), integer("-10")), (Some(0), Some(0), Some(-10)));
        for text in ["10.5", "1e-1", "\"10\"", "null", "true", "[]"] {
            assert_eq!(integer(text), None, "{text}");
        }
        let huge = format!("1{}", "0".repeat(40));
        for text in ["9223372036854775808", "1e400", huge.as_str()] {
            assert_eq!(integer(text), Some(i64::MAX), "{text}");
        }
        assert_eq!(integer("-1e40"), Some(i64::MIN));
        assert_eq!(integer("9007199254740993"), Some(9_007_199_254_740_993));
    }

    #[test]
    fn a_repeated_name_is_no_object_however_it_is_escaped() {
        let is_object = |body: &[u8]| Document::of_body(body).unwrap().value().object().is_some();
        assert!(!is_object(br#"{"a":1,"\u0061":2}"#));
        assert!(is_object(br#"{"a":1,"b":{"a":2}}"#));
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let document = Document::of_body(deep.as_bytes()).unwrap();
        assert!(document.value().array().is_some_and(|inner| inner.len() == 1));
    }

    /// The value as it is found one level at a time.
    fn rebuilt(value: Value<'_>) -> serde_json::Value {
        if let Some(object) = value.object() {
            object.members().map(|(name, value)| (name.to_owned(), rebuilt(value))).collect()
        } else if let Some(elements) = value.array() {
            elements.into_iter().map(rebuilt).collect()
        } else {
            serde_json::from_str(value.raw()).unwrap()
        }
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_filter("a number", |number| number.is_finite()).prop_map(Into::into),
            "[a\"\\\\{}\\[\\],: \n\u{e9}\u{1f600}]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let name = "[a-z\"\\\\{}\\[\\],:]{0,4}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map(name, inner, 0..40)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_as_an_independent_reader_reads_it(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            for written in [json, format!("\"{escaped}\"")] {
                let document = Document::of_body(written.as_bytes()).unwrap();
                let read = document.value().text().unwrap();
                prop_assert_eq!(read.as_str(), text.as_str());
            }
        }

        #[test]
        fn any_bytes_are_refused_or_opened(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(document) = Document::of_body(&body) {
                let value = document.value();
                let _ = (value.object().is_some(), value.array().is_some(), value.text().is_some(), value.integer());
            }
        }

        #[test]
        fn members_and_elements_are_those_an_independent_reader_finds(
            value in any_value(), indent in any::<bool>(), too_many_for_an_outline in any::<bool>()
        ) {
            let more = if too_many_for_an_outline { vec![serde_json::json!([]); 5000] } else { vec![] };
            let value = serde_json::json!([value, more]);
            let text = if indent { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let text = text.unwrap();
            prop_assert_eq!(rebuilt(Document::of_body(text.as_bytes()).unwrap().value()), value);
        }

        #[test]
        fn integers_are_exact(number in any::<i64>(), zeros in 0usize..4) {
            let written = format!("{number}.{}", "0".repeat(zeros + 1));
            prop_assert_eq!(integer(&written), Some(number));
        }
    }
}
