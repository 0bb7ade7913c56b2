//! Numbers as exact decimals, read and written without a double.
//!
//! Read without a double, compared with the nearest double, and written as ECMAScript would or with a
//! power of ten. No floating arithmetic decides anything but that comparison.

use super::{JsonError, MAX_NUMBER_DIGITS, MAX_NUMBER_EXPONENT};

/// Any decimal of so many digits within the normal doubles is the shortest one of its nearest double:
/// two such decimals never share a double (`DBL_DIG`).
const ALWAYS_EXACT_DIGITS: usize = 15;
/// No shortest decimal of a double has more.
const MOST_SHORTEST_DIGITS: usize = 17;
/// Where the point may stand for the rule above to hold, well within the normal doubles.
const ALWAYS_EXACT_POINTS: std::ops::RangeInclusive<i32> = -300..=300;

/// The integer at `start` when it is one that its own bytes are the shortest form of and that any
/// double holds: at most 15 digits, neither fraction nor exponent, not `-0`. This is nearly every
/// number of ACP, and `None` means only that [`Decimal::read`] has to look.
pub(super) fn short_integer(input: &[u8], start: usize) -> Option<&[u8]> {
    let rest = input.get(start..)?;
    let sign = usize::from(rest.first() == Some(&b'-'));
    let digits = rest.iter().skip(sign).take_while(|byte| byte.is_ascii_digit()).count();
    let first = *rest.get(sign)?;
    let has_more = matches!(rest.get(sign + digits), Some(b'.' | b'e' | b'E'));
    let is_plain = first != b'0' || (digits == 1 && sign == 0);
    ((1..=ALWAYS_EXACT_DIGITS).contains(&digits) && is_plain && !has_more)
        .then(|| rest.get(..sign + digits))
        .flatten()
}

/// Appends what [`short_integer`] gave, as [`Decimal::write_exactly`] would.
pub(super) fn write_short_integer_exactly(integer: &[u8], out: &mut Vec<u8>) {
    let zeros = integer.iter().rev().take_while(|byte| **byte == b'0').count();
    if zeros == 0 || zeros == integer.len() {
        out.extend_from_slice(integer);
    } else {
        out.extend_from_slice(integer.get(..integer.len() - zeros).unwrap_or_default());
        write_exponent(i32::try_from(zeros).unwrap_or_default(), out);
    }
}

/// A number's exact value: ± digits × 10^exponent. The digits have neither leading nor trailing zeros;
/// zero has none, no sign and no exponent. So equal values are equal fields.
#[derive(PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    /// ASCII digits, the first `count` of them; zero bytes after.
    digits: [u8; MAX_NUMBER_DIGITS],
    count: usize,
    exponent: i32,
}

impl Decimal {
    /// Reads the number that begins at `start`; gives the offset after it.
    pub(super) fn read(input: &[u8], start: usize) -> Result<(Self, usize), JsonError> {
        let negative = input.get(start) == Some(&b'-');
        let mut at = start + usize::from(negative);
        let whole = read_digits(input, at)?;
        if whole.len() > 1 && whole.starts_with(b"0") {
            return Err(JsonError::Syntax(at + 1));
        }
        at += whole.len();
        let mut fraction: &[u8] = b"";
        if input.get(at) == Some(&b'.') {
            fraction = read_digits(input, at + 1)?;
            at += 1 + fraction.len();
        }
        if whole.len() + fraction.len() > MAX_NUMBER_DIGITS {
            return Err(JsonError::TooManyDigits(start));
        }
        let (written_exponent, end) = read_exponent(input, at)?;
        if written_exponent.abs() > MAX_NUMBER_EXPONENT {
            return Err(JsonError::ExponentTooLarge(start));
        }
        Ok((Self::normalised(negative, whole, fraction, written_exponent), end))
    }

    fn normalised(negative: bool, whole: &[u8], fraction: &[u8], written_exponent: i32) -> Self {
        let mut digits = [0; MAX_NUMBER_DIGITS];
        let mut count = 0;
        // Of the digits from the first that is not zero, how many stand after the last such one.
        let mut trailing_zeros = 0;
        let significant = whole.iter().chain(fraction).skip_while(|digit| **digit == b'0');
        for (slot, digit) in digits.iter_mut().zip(significant) {
            *slot = *digit;
            count += 1;
            trailing_zeros = if *digit == b'0' { trailing_zeros + 1 } else { 0 };
        }
        if count == 0 {
            return Self { negative: false, digits, count, exponent: 0 };
        }
        count -= trailing_zeros;
        digits.iter_mut().skip(count).for_each(|digit| *digit = 0);
        // Both are at most 32.
        let shift = |length: usize| i32::try_from(length).unwrap_or_default();
        let exponent = written_exponent - shift(fraction.len()) + shift(trailing_zeros);
        Self { negative, digits, count, exponent }
    }

    /// Whether a reader that keeps numbers as doubles and prints them as ECMAScript does would print
    /// this very value: the value is the shortest decimal of its nearest double.
    pub(super) fn is_shortest_of_its_double(&self) -> bool {
        if self.count <= ALWAYS_EXACT_DIGITS && ALWAYS_EXACT_POINTS.contains(&self.point()) {
            return true;
        }
        if self.count > MOST_SHORTEST_DIGITS {
            return false;
        }
        self.shortest_of_nearest_double().is_some_and(|shortest| shortest == *self)
    }

    /// What is left of the value after a double held it; `None` for one beyond the doubles.
    fn shortest_of_nearest_double(&self) -> Option<Self> {
        let mut written = Vec::with_capacity(MAX_NUMBER_DIGITS);
        self.write_exactly(&mut written);
        let double: f64 = std::str::from_utf8(&written).ok()?.parse().ok()?;
        if !double.is_finite() {
            return None;
        }
        // ECMAScript picks the even one of two shortest decimals as close; the standard library does not.
        let mut buffer = ryu_js::Buffer::new();
        Self::read(buffer.format_finite(double).as_bytes(), 0).ok().map(|(shortest, _)| shortest)
    }

    /// Appends the number as ECMAScript's Number::toString prints it (RFC 8785 §3.2.2.3), given that
    /// [`is_shortest_of_its_double`](Self::is_shortest_of_its_double).
    pub(super) fn write_as_ecmascript(&self, out: &mut Vec<u8>) {
        if self.negative {
            out.push(b'-');
        }
        let digits = self.digits();
        let point = self.point();
        match usize::try_from(point) {
            _ if digits.is_empty() => out.push(b'0'),
            Ok(whole) if (1..=21).contains(&whole) => {
                let (whole_digits, fraction) = digits.split_at_checked(whole).unwrap_or((digits, b""));
                out.extend_from_slice(whole_digits);
                out.resize(out.len() + whole - whole_digits.len(), b'0');
                if !fraction.is_empty() {
                    out.push(b'.');
                    out.extend_from_slice(fraction);
                }
            }
            _ if (-5..=0).contains(&point) => {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + usize::try_from(-point).unwrap_or_default(), b'0');
                out.extend_from_slice(digits);
            }
            _ => {
                let (first, fraction) = digits.split_at_checked(1).unwrap_or((digits, b""));
                out.extend_from_slice(first);
                if !fraction.is_empty() {
                    out.push(b'.');
                    out.extend_from_slice(fraction);
                }
                out.extend_from_slice(if point > 0 { b"e+" } else { b"e-" });
                write_integer((point - 1).unsigned_abs(), out);
            }
        }
    }

    /// Appends sign, digits, and `e` with the exponent unless that is zero: JSON again, and the same
    /// bytes for the same value only.
    pub(super) fn write_exactly(&self, out: &mut Vec<u8>) {
        if self.count == 0 {
            out.push(b'0');
            return;
        }
        if self.negative {
            out.push(b'-');
        }
        out.extend_from_slice(self.digits());
        if self.exponent != 0 {
            write_exponent(self.exponent, out);
        }
    }

    fn digits(&self) -> &[u8] {
        self.digits.get(..self.count).unwrap_or_default()
    }

    /// Where the point stands, counted from the first digit: the value is 0.ddd × 10^point.
    fn point(&self) -> i32 {
        self.exponent + i32::try_from(self.count).unwrap_or_default()
    }
}

/// The digits from `start` on, at least one.
fn read_digits(input: &[u8], start: usize) -> Result<&[u8], JsonError> {
    let rest = input.get(start..).unwrap_or_default();
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match rest.split_at_checked(length) {
        Some((digits, _)) if length > 0 => Ok(digits),
        _ if rest.is_empty() => Err(JsonError::UnexpectedEnd(input.len())),
        _ => Err(JsonError::Syntax(start)),
    }
}

/// The exponent at `start` if there is one (beyond the bound, any value beyond the bound), else zero,
/// and the offset after it.
fn read_exponent(input: &[u8], start: usize) -> Result<(i32, usize), JsonError> {
    if !matches!(input.get(start), Some(b'e' | b'E')) {
        return Ok((0, start));
    }
    let sign = input.get(start + 1);
    let at = start + 1 + usize::from(matches!(sign, Some(b'+' | b'-')));
    let digits = read_digits(input, at)?;
    let magnitude = digits.iter().fold(0_i32, |sum, digit| {
        sum.saturating_mul(10).saturating_add(i32::from(digit.saturating_sub(b'0')))
    });
    Ok((if sign == Some(&b'-') { -magnitude } else { magnitude }, at + digits.len()))
}

fn write_exponent(exponent: i32, out: &mut Vec<u8>) {
    out.push(b'e');
    if exponent < 0 {
        out.push(b'-');
    }
    write_integer(exponent.unsigned_abs(), out);
}

fn write_integer(integer: u32, out: &mut Vec<u8>) {
    if integer >= 10 {
        write_integer(integer / 10, out);
    }
    out.push(b'0' + u8::try_from(integer % 10).unwrap_or_default());
}
