//! Strings: read with every escape JSON knows, written with the fewest (RFC 8785 §3.2.2.2).

use super::JsonError;

/// Where a string stands: a member's name may not contain NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Name,
    Value,
}

/// Reads the string whose opening quote is at `start` of `input`, which is valid UTF-8, and appends its
/// form. Gives whether the form has escapes, and the offset after the closing quote.
pub(super) fn read_text(
    input: &[u8],
    start: usize,
    place: Place,
    out: &mut Vec<u8>,
) -> Result<(bool, usize), JsonError> {
    let mut escaped = false;
    // Everything from `copied` up to `at` is to be written as it is.
    let (mut copied, mut at) = (start, start + 1);
    loop {
        at += plain_run(input.get(at..).unwrap_or_default());
        match input.get(at) {
            Some(b'"') => {
                out.extend_from_slice(input.get(copied..=at).unwrap_or_default());
                return Ok((escaped, at + 1));
            }
            Some(b'\\') => {
                out.extend_from_slice(input.get(copied..at).unwrap_or_default());
                let (character, end) = read_escape(input, at)?;
                if character == '\0' && place == Place::Name {
                    return Err(JsonError::NulInName(start));
                }
                escaped |= write_character(character, out);
                (copied, at) = (end, end);
            }
            Some(_) => return Err(JsonError::Syntax(at)),
            None => return Err(JsonError::UnexpectedEnd(at)),
        }
    }
}

/// How many bytes come before the first quote, backslash or control character, if any.
#[inline]
pub fn plain_run(bytes: &[u8]) -> usize {
    let mut run = 0;
    let mut rest = bytes;
    // Eight bytes at a time, as most strings have no escapes at all.
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let stops = stops(u64::from_le_bytes(*word));
        if stops != 0 {
            return run + usize::try_from(stops.trailing_zeros() / 8).unwrap_or_default();
        }
        (run, rest) = (run + 8, after);
    }
    run + rest.iter().take_while(|byte| **byte >= 0x20 && !matches!(byte, b'"' | b'\\')).count()
}

/// Marks the top bit of bytes that end a plain run. The lowest mark is exact; a borrow may set further
/// marks above it.
fn stops(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
    const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
    const SPACES: u64 = u64::from_ne_bytes([0x20; 8]);
    let zero_bytes = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let controls = word.wrapping_sub(SPACES) & !word;
    (zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES) | controls) & TOPS
}

/// Reads the escape whose backslash is at `start`; gives its character and the offset after it.
fn read_escape(input: &[u8], start: usize) -> Result<(char, usize), JsonError> {
    let simple = |character| Ok((character, start + 2));
    match input.get(start + 1) {
        Some(b'"') => simple('"'),
        Some(b'\\') => simple('\\'),
        Some(b'/') => simple('/'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'n') => simple('\n'),
        Some(b'r') => simple('\r'),
        Some(b't') => simple('\t'),
        Some(b'u') => read_code_units(input, start),
        Some(_) => Err(JsonError::Syntax(start + 1)),
        None => Err(JsonError::UnexpectedEnd(start + 1)),
    }
}

/// Reads a `\uXXXX` whose backslash is at `start`, and a second one when the first is half a character.
fn read_code_units(input: &[u8], start: usize) -> Result<(char, usize), JsonError> {
    let first = read_hexadecimal(input, start + 2)?;
    if let Some(character) = char::from_u32(first) {
        return Ok((character, start + 6));
    }
    let low = match input.get(start + 6..start + 8) {
        Some(b"\\u") if first < 0xDC00 => read_hexadecimal(input, start + 8)?,
        _ => return Err(JsonError::LoneSurrogate(start)),
    };
    if !(0xDC00..0xE000).contains(&low) {
        return Err(JsonError::LoneSurrogate(start));
    }
    char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00))
        .map(|character| (character, start + 12))
        .ok_or(JsonError::LoneSurrogate(start))
}

/// Reads four hexadecimal digits of either case.
fn read_hexadecimal(input: &[u8], start: usize) -> Result<u32, JsonError> {
    let mut unit = 0;
    for at in start..start + 4 {
        let byte = *input.get(at).ok_or(JsonError::UnexpectedEnd(input.len()))?;
        let digit = char::from(byte).to_digit(16).ok_or(JsonError::Syntax(at))?;
        unit = unit * 16 + digit;
    }
    Ok(unit)
}

/// Appends a character with the escape RFC 8785 prescribes for it, if any; gives whether it has one.
fn write_character(character: char, out: &mut Vec<u8>) -> bool {
    let short = match character {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\t' => b't',
        '\n' => b'n',
        '\u{c}' => b'f',
        '\r' => b'r',
        '\0'..'\u{20}' => {
            let low = char::from_digit(u32::from(character) & 0xF, 16).unwrap_or_default();
            out.extend_from_slice(if character < '\u{10}' { b"\\u000" } else { b"\\u001" });
            out.extend_from_slice(low.encode_utf8(&mut [0; 4]).as_bytes());
            return true;
        }
        _ => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return false;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
    true
}

/// The UTF-8 bytes of a written string without its escapes, `written` being what stands between the
/// quotes. Only the escapes of `write_character` occur.
pub(super) fn unescaped(written: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = written;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [b'\\', b'u', b'0', b'0', high, low, after @ ..] => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
                (u8::try_from(digit(high) * 16 + digit(low)).unwrap_or_default(), after)
            }
            [b'\\', b'b', after @ ..] => (0x08, after),
            [b'\\', b't', after @ ..] => (b'\t', after),
            [b'\\', b'n', after @ ..] => (b'\n', after),
            [b'\\', b'f', after @ ..] => (0x0C, after),
            [b'\\', b'r', after @ ..] => (b'\r', after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => (*byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Result<String, JsonError> {
        let mut out = Vec::new();
        read_text(text.as_bytes(), 0, Place::Value, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_plain_run_ends_at_the_first_byte_that_is_not_plain_wherever_it_stands() {
        for length in 0..40 {
            assert_eq!(plain_run(&vec![b'a'; length]), length);
            for stop in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'a'; length];
                    bytes[stop] = byte;
                    let plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
                    assert_eq!(plain_run(&bytes), if plain { length } else { stop }, "{byte:#x} at {stop}");
                }
            }
        }
    }

    #[test]
    fn only_quotes_backslashes_and_controls_keep_an_escape() {
        assert_eq!(form(r#""\u0041\/\u00e9\u20AC\ud83d\ude02""#).unwrap(), r#""A/é€😂""#);
        assert_eq!(form(r#""\u0022\u005c\u0008\u0009\u000A\u000c\u000D""#).unwrap(), r#""\"\\\b\t\n\f\r""#);
        assert_eq!(form(r#""\u0000\u001F\u007f""#).unwrap(), "\"\\u0000\\u001f\u{7f}\"");
    }

    #[test]
    fn half_characters_are_refused_at_their_backslash() {
        for text in [
            r#""ab\ud83d""#,
            r#""ab\ude02""#,
            r#""ab\ud83dx""#,
            r#""ab\ud83d\n""#,
            r#""ab\ud83d\ud83d""#,
            r#""ab\ud83d\u0041""#,
            r#""ab\ude02\ud83d""#,
        ] {
            assert_eq!(form(text), Err(JsonError::LoneSurrogate(3)), "{text}");
        }
    }

    #[test]
    fn bad_escapes_and_raw_controls_are_refused() {
        assert_eq!(form(r#""\x41""#), Err(JsonError::Syntax(2)));
        assert_eq!(form(r#""\U0041""#), Err(JsonError::Syntax(2)));
        assert_eq!(form(r#""\u+041""#), Err(JsonError::Syntax(3)));
        assert_eq!(form(r#""\u00"#), Err(JsonError::UnexpectedEnd(5)));
        assert_eq!(form(r#""\"#), Err(JsonError::UnexpectedEnd(2)));
        assert_eq!(form(r#""abc"#), Err(JsonError::UnexpectedEnd(4)));
        assert_eq!(form("\"a\nb\""), Err(JsonError::Syntax(2)));
        assert_eq!(form("\"a\0b\""), Err(JsonError::Syntax(2)));
    }

    #[test]
    fn unescaping_the_written_form_gives_the_characters_back() {
        let all: String = ('\0'..'\u{120}').chain(['\u{fb33}', '😂']).collect();
        let mut written = Vec::new();
        for character in all.chars() {
            write_character(character, &mut written);
        }
        assert_eq!(unescaped(&written).collect::<Vec<_>>(), all.as_bytes());
    }
}
