//! The bank behind the test cards.

use crate::domain::card::Pan;

/// A card that is accepted.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that is declined.
pub const DECLINED_CARD: &str = "4000000000000002";
/// A card that is accepted after 3-D Secure.
pub const SECURE_CARD: &str = "4000000000003220";
/// A card that is declined the first time for a session, and then as [`SECURE_CARD`].
pub const HESITANT_CARD: &str = "4000000000009995";

/// What the card's issuer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    Approves,
    Declines,
    WantsAuthentication,
}

impl Issuer {
    /// The cards decide; any other is accepted. `outcome` is that of 3-D Secure, if it took place.
    pub(super) fn judge(card: &Pan, outcome: Option<&str>, declined_before: bool) -> Self {
        match card.expose() {
            DECLINED_CARD => Self::Declines,
            HESITANT_CARD if !declined_before => Self::Declines,
            SECURE_CARD | HESITANT_CARD => match outcome {
                None => Self::WantsAuthentication,
                // `attempt` was the word in 2026-01-16.
                Some("authenticated" | "attempt_acknowledged" | "attempt") => Self::Approves,
                Some(_) => Self::Declines,
            },
            _ => Self::Approves,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_cards_decide() {
        let judge = |number, outcome, declined_before| {
            Issuer::judge(&Pan::parse_fpan(number).unwrap(), outcome, declined_before)
        };
        assert_eq!(judge(GOOD_CARD, None, true), Issuer::Approves);
        assert_eq!(judge(DECLINED_CARD, Some("authenticated"), true), Issuer::Declines);
        assert_eq!(judge(SECURE_CARD, None, false), Issuer::WantsAuthentication);
        assert_eq!(judge(SECURE_CARD, Some("authenticated"), false), Issuer::Approves);
        assert_eq!(judge(SECURE_CARD, Some("denied"), false), Issuer::Declines);
        assert_eq!(judge(HESITANT_CARD, None, false), Issuer::Declines);
        assert_eq!(judge(HESITANT_CARD, None, true), Issuer::WantsAuthentication);
    }
}
