//! The protocol's versions, named by date, and the few rules that depend on one.

use std::fmt;

/// A released version of the protocol. Later dates are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The first release: `items`, `payment_data.token`.
    V2025_09_29,
    /// 3-D Secure, `fulfillment_details`, body on cancel.
    V2025_12_12,
    /// `totals[]` on fulfillment options.
    V2026_01_16,
    /// `line_items`, capabilities and payment handlers; the token moves into an instrument.
    V2026_01_30,
    /// Mandatory idempotency keys, carts, discovery.
    V2026_04_17,
}

impl Version {
    /// Every version, newest first: the order of `Error.supported_versions` (`src/acp/README.md`,
    /// "Versions").
    pub const NEWEST_FIRST: [Self; 5] =
        [Self::V2026_04_17, Self::V2026_01_30, Self::V2026_01_16, Self::V2025_12_12, Self::V2025_09_29];

    /// The newest version.
    pub const LATEST: Self = Self::V2026_04_17;

    /// Reads a date name exactly; `None` for a version that is not known.
    pub fn parse(text: &str) -> Option<Self> {
        Self::NEWEST_FIRST.into_iter().find(|version| version.as_str() == text)
    }

    /// The date name, as in `API-Version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_09_29 => "2025-09-29",
            Self::V2025_12_12 => "2025-12-12",
            Self::V2026_01_16 => "2026-01-16",
            Self::V2026_01_30 => "2026-01-30",
            Self::V2026_04_17 => "2026-04-17",
        }
    }

    /// Whether every POST must carry an `Idempotency-Key` (rfc.agentic_checkout §6.1).
    pub const fn requires_idempotency_key(self) -> bool {
        match self {
            Self::V2025_09_29 | Self::V2025_12_12 | Self::V2026_01_16 | Self::V2026_01_30 => false,
            Self::V2026_04_17 => true,
        }
    }

    /// Whether `delegate_payment` needs at least one risk signal (`src/acp/README.md`, "Cards").
    pub const fn requires_risk_signals(self) -> bool {
        !self.requires_idempotency_key()
    }

    /// The status of `idempotency_conflict` on `delegate_payment`: 409 up to 2026-01-30, then 422
    /// (`src/acp/README.md`, "Idempotency"). Every other route answers 422 in every version.
    pub const fn delegate_conflict_status(self) -> http::StatusCode {
        match self {
            Self::V2025_09_29 | Self::V2025_12_12 | Self::V2026_01_16 | Self::V2026_01_30 => {
                http::StatusCode::CONFLICT
            }
            Self::V2026_04_17 => http::StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// Whether `display_last4` is exactly four digits rather than at most four characters
    /// (`src/acp/README.md`, "Cards").
    pub const fn exact_last4(self) -> bool {
        !matches!(self, Self::V2025_09_29)
    }

    /// Whether complete carries the token in `payment_data.instrument` rather than in
    /// `payment_data.token` (`src/acp/README.md`, "Versions").
    pub const fn token_in_instrument(self) -> bool {
        match self {
            Self::V2025_09_29 | Self::V2025_12_12 | Self::V2026_01_16 => false,
            Self::V2026_01_30 | Self::V2026_04_17 => true,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_their_dates() {
        for pair in Version::NEWEST_FIRST.windows(2) {
            assert!(pair[0] > pair[1] && pair[0].as_str() > pair[1].as_str());
        }
        assert_eq!(Version::NEWEST_FIRST[0], Version::LATEST);
    }

    #[test]
    fn a_version_is_read_exactly_or_not_at_all() {
        for version in Version::NEWEST_FIRST {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for text in ["", "2026-04-18", "2025-09-12", "2026-04-17 ", "2026-4-17", "latest"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_reused_key_is_409_on_delegate_payment_before_2026_04_17_and_422_from_then_on() {
        let statuses = Version::NEWEST_FIRST.map(|version| version.delegate_conflict_status().as_u16());
        assert_eq!(statuses, [422, 409, 409, 409, 409]);
    }
}
