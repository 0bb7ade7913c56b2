//! Ids: each kind of id is a type of its own, read once at the edge.
//!
//! Up to 20 characters stand in the id itself; longer ones in memory that copies share.

use std::fmt;

use byteview::StrView;
use serde::{Deserialize, Serialize};

/// Longest id taken from a path or a configuration, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Whether `text` is one path segment of `[A-Za-z0-9._~-]{1,128}` other than `.` and `..`.
pub fn is_path_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_ID_BYTES
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

macro_rules! path_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(StrView);

        impl $name {
            /// Reads an id of the path grammar; `None` when it is not one.
            pub fn parse(text: &str) -> Option<Self> {
                is_path_id(text).then(|| Self(StrView::new(text)))
            }

            /// The same, of text that is shared and not copied.
            pub fn parse_shared(text: &StrView) -> Option<Self> {
                is_path_id(text).then(|| Self(text.clone()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same, to be shared.
            pub const fn text(&self) -> &StrView {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

path_id! {
    /// A configured agent.
    AgentId
}
path_id! {
    /// A configured merchant, as named in `/m/{merchant}/`.
    MerchantId
}
path_id! {
    /// A merchant's id of a checkout session or a cart, as it stands in a path.
    SessionId
}
path_id! {
    /// A key of a ring, or of an agent or redeemer.
    KeyId
}
path_id! {
    /// A claim: the `Idempotency-Key` sent to the merchant on complete (43 base64url characters).
    ClaimId
}
path_id! {
    /// A payment token of ours: `vt_`, a tag of 10 characters naming its session's partition, and
    /// at least 128 random bits, all in `[A-Za-z0-9]`.
    TokenId
}

/// Characters of a token id's tag.
pub const TOKEN_TAG_CHARS: usize = 10;
/// Random characters of a token id: 22 of base62 carry 131 bits.
pub const TOKEN_RANDOM_CHARS: usize = 22;
const TOKEN_PREFIX: &str = "vt_";

impl TokenId {
    /// Joins a tag and random characters, both base62.
    pub fn assemble(tag: &str, random: &str) -> Option<Self> {
        Self::parse_minted(&format!("{TOKEN_PREFIX}{tag}{random}"))
    }

    /// Reads an id of exactly the shape we mint; `None` for anything else, a provider's own token
    /// included.
    pub fn parse_minted(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(TOKEN_PREFIX)?;
        (rest.len() == TOKEN_TAG_CHARS + TOKEN_RANDOM_CHARS
            && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
        .then(|| Self(StrView::new(text)))
    }

    /// The tag: which partition holds the token and its session.
    pub fn tag(&self) -> &str {
        self.0.get(TOKEN_PREFIX.len()..TOKEN_PREFIX.len() + TOKEN_TAG_CHARS).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_ids_never_climb_or_escape() {
        for good in ["a", "cs_1", "A.b~c-d", &"x".repeat(128)] {
            assert!(is_path_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a%2f", "a b", "é", "a;b", "a\\b", &"x".repeat(129)] {
            assert!(!is_path_id(bad), "{bad}");
        }
    }

    #[test]
    fn a_token_id_names_its_tag() {
        let id = TokenId::assemble("abcdefghij", "0123456789012345678901").unwrap();
        assert_eq!(id.as_str(), "vt_abcdefghij0123456789012345678901");
        assert_eq!(id.tag(), "abcdefghij");
        assert!(TokenId::parse_minted("spt_123").is_none());
    }
}
