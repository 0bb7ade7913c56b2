//! Which profile `sign` and `verify` speak, as their arguments choose it.

use clap::{Args, ValueEnum};

use crate::auth::signature::Scheme;
use crate::registry::{AcpVariant, BodyForm, Encoding, SignedParts, TimestampForm};

/// Which profile to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProfileChoice {
    /// RFC 9421 with Content-Digest.
    Rfc9421,
    /// ACP's header over Timestamp, method, path, Idempotency-Key and canonical body.
    AcpBound,
    /// ACP's header over what its clients sign in practice.
    Acp,
}

/// The variant of the profile `acp`; the names are those of `agents.signature.acp` in the
/// configuration.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct VariantArgs {
    /// With --profile acp: what is signed.
    #[arg(long, value_enum, default_value_t = SignedChoice::TimestampBody)]
    pub acp_signed: SignedChoice,
    /// With --profile acp: in which form the body is signed.
    #[arg(long, value_enum, default_value_t = BodyChoice::Canonical)]
    pub acp_body: BodyChoice,
    /// With --profile acp: how the signature is written.
    #[arg(long, value_enum, default_value_t = EncodingChoice::Base64url)]
    pub acp_encoding: EncodingChoice,
    /// With --profile acp: how Timestamp is written.
    #[arg(long, value_enum, default_value_t = TimestampChoice::Rfc3339)]
    pub acp_timestamp: TimestampChoice,
}

/// See [`SignedParts`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub(super) enum SignedChoice {
    TimestampBody,
    Body,
    TimestampMethodPathBody,
}

/// See [`BodyForm`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub(super) enum BodyChoice {
    Canonical,
    Raw,
}

/// See [`Encoding`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub(super) enum EncodingChoice {
    Base64,
    Base64url,
    Hex,
}

/// See [`TimestampForm`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub(super) enum TimestampChoice {
    Rfc3339,
    UnixSeconds,
}

impl VariantArgs {
    /// The scheme of ACP's header for this profile; `None` for RFC 9421.
    pub(super) fn scheme(self, profile: ProfileChoice) -> Option<Scheme> {
        match profile {
            ProfileChoice::Rfc9421 => None,
            ProfileChoice::AcpBound => Some(Scheme::Bound),
            ProfileChoice::Acp => Some(Scheme::Acp(AcpVariant {
                signed: match self.acp_signed {
                    SignedChoice::TimestampBody => SignedParts::TimestampBody,
                    SignedChoice::Body => SignedParts::Body,
                    SignedChoice::TimestampMethodPathBody => SignedParts::TimestampMethodPathBody,
                },
                body: match self.acp_body {
                    BodyChoice::Canonical => BodyForm::Canonical,
                    BodyChoice::Raw => BodyForm::Raw,
                },
                encoding: match self.acp_encoding {
                    EncodingChoice::Base64 => Encoding::Base64,
                    EncodingChoice::Base64url => Encoding::Base64Url,
                    EncodingChoice::Hex => Encoding::Hex,
                },
                timestamp: match self.acp_timestamp {
                    TimestampChoice::Rfc3339 => TimestampForm::Rfc3339,
                    TimestampChoice::UnixSeconds => TimestampForm::UnixSeconds,
                },
            })),
        }
    }
}
