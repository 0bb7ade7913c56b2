//! Card data in clear. None of these types can be printed, serialised, copied or compared.
//!
//! ```compile_fail
//! fn printed(pan: countersign::domain::card::Pan) -> String { format!("{pan:?}") }
//! ```
//! ```compile_fail
//! fn written(pan: countersign::domain::card::Pan) -> String { serde_json::to_string(&pan).unwrap_or_default() }
//! ```
//! ```compile_fail
//! fn copied(cvc: countersign::domain::card::Cvc) { let _ = cvc.clone(); }
//! ```
//! ```compile_fail
//! fn compared(a: countersign::domain::card::Cvc, b: countersign::domain::card::Cvc) -> bool { a == b }
//! ```

use super::secret::SecretString;

/// A card number or network token.
pub struct Pan(SecretString);

/// A card verification code.
pub struct Cvc(SecretString);

impl Pan {
    /// A funding card number: 12 to 19 digits whose Luhn checksum holds.
    pub fn parse_fpan(text: &str) -> Option<Self> {
        let digits_only = text.bytes().all(|b| b.is_ascii_digit());
        ((12..=19).contains(&text.len()) && digits_only && luhn(text.bytes()))
            .then(|| Self(SecretString::new(text.to_owned())))
    }

    /// A network token: any 1 to 64 visible characters (`src/acp/README.md`, "Cards").
    pub fn parse_network_token(text: &str) -> Option<Self> {
        ((1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()))
            .then(|| Self(SecretString::new(text.to_owned())))
    }

    /// The number, named so that every use can be found.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Cvc {
    /// Three or four digits.
    pub fn parse(text: &str) -> Option<Self> {
        ((3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| Self(SecretString::new(text.to_owned())))
    }

    /// The code, named so that every use can be found.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Whether ASCII digits satisfy the Luhn checksum (ISO/IEC 7812-1 annex B); false when any byte is
/// not a digit.
pub fn luhn(digits: impl DoubleEndedIterator<Item = u8>) -> bool {
    let mut sum = 0u32;
    for (position, byte) in digits.rev().enumerate() {
        if !byte.is_ascii_digit() {
            return false;
        }
        let digit = u32::from(byte - b'0');
        sum += match (position % 2, digit) {
            (0, d) => d,
            (_, d) if d > 4 => 2 * d - 9,
            (_, d) => 2 * d,
        };
    }
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_funding_number_needs_its_checksum() {
        assert!(Pan::parse_fpan("4242424242424242").is_some());
        assert!(Pan::parse_fpan("4242424242424241").is_none());
        assert!(Pan::parse_fpan("4242 4242 4242 4242").is_none());
        assert!(Pan::parse_fpan("42424242424").is_none());
    }

    #[test]
    fn a_network_token_is_opaque() {
        assert!(Pan::parse_network_token("tok_visa_abc123").is_some());
        assert!(Pan::parse_network_token("").is_none());
    }

    #[test]
    fn a_cvc_is_three_or_four_digits() {
        assert!(Cvc::parse("123").is_some() && Cvc::parse("1234").is_some());
        assert!(Cvc::parse("12").is_none() && Cvc::parse("12345").is_none() && Cvc::parse("12a").is_none());
    }
}
