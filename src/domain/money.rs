//! Money: integers in minor units with a currency, checked, never floating, never converted.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The largest amount accepted: the largest integer every JSON reader keeps exactly (2^53 - 1).
pub const MAX_MINOR_UNITS: u64 = (1 << 53) - 1;

/// An amount in minor units (cents for `usd`, yen for `jpy`), at most 2^53 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MinorUnits(u64);

impl MinorUnits {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount, or `None` above 2^53 - 1.
    pub const fn new(units: u64) -> Option<Self> {
        if units <= MAX_MINOR_UNITS { Some(Self(units)) } else { None }
    }

    /// The number of minor units.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The sum, or `None` when it is above 2^53 - 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::new)
    }
}

impl fmt::Display for MinorUnits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A three-letter currency, held lower-case (`src/acp/README.md`, "Totals").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Reads three ASCII letters of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 3] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_alphabetic).then(|| Self(bytes.map(|b| b.to_ascii_lowercase())))
    }

    /// The lower-case letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in a currency. Amounts of different currencies have no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    /// How much, in minor units.
    pub amount: MinorUnits,
    /// Of what.
    pub currency: Currency,
}

/// Why an amount does not fit within a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotFit {
    /// It is more than the limit.
    #[error("the amount is above the limit")]
    OverLimit,
    /// It is in another currency: nothing is ever converted.
    #[error("the currency differs from the limit's")]
    CurrencyMismatch,
}

impl Money {
    /// Whether this much may be spent under `limit`.
    ///
    /// # Errors
    /// [`DoesNotFit`] names which of amount and currency is wrong.
    pub fn fits_within(&self, limit: &Self) -> Result<(), DoesNotFit> {
        if self.currency != limit.currency {
            return Err(DoesNotFit::CurrencyMismatch);
        }
        if self.amount > limit.amount { Err(DoesNotFit::OverLimit) } else { Ok(()) }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(amount: u64, currency: &str) -> Money {
        Money { amount: MinorUnits::new(amount).unwrap(), currency: Currency::parse(currency).unwrap() }
    }

    #[test]
    fn the_limit_itself_fits_and_one_more_does_not() {
        assert_eq!(money(100, "usd").fits_within(&money(100, "USD")), Ok(()));
        assert_eq!(money(101, "usd").fits_within(&money(100, "usd")), Err(DoesNotFit::OverLimit));
    }

    #[test]
    fn another_currency_never_fits() {
        assert_eq!(money(1, "eur").fits_within(&money(100, "usd")), Err(DoesNotFit::CurrencyMismatch));
    }

    proptest! {
        #[test]
        fn sums_never_exceed_what_json_keeps_exactly(a in 0..=MAX_MINOR_UNITS, b in 0..=MAX_MINOR_UNITS) {
            let sum = MinorUnits::new(a).unwrap().checked_add(MinorUnits::new(b).unwrap());
            prop_assert_eq!(sum.map(MinorUnits::get), Some(a + b).filter(|s| *s <= MAX_MINOR_UNITS));
        }
    }
}
