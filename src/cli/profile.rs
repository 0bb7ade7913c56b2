//! The verbs `keygen`, `sign` and `verify`: what a developer needs to get a signature right. They take
//! arguments and a writer, so that `main` only dispatches and tests see what users see.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::auth::signature::{Scheme, SignatureRefusal};
use crate::crypto::random::RandomUnavailable;
use crate::http_signature::HttpSignatureError;
use crate::registry::{AcpVariant, BodyForm, Encoding, SignedParts, TimestampForm};

/// Why a verb could not do its work. Never carries a byte of a key.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file that cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that holds no key of the kind that is needed.
    #[error("{path}: {expected}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A request that cannot be read.
    #[error("{0}")]
    Request(&'static str),
    /// A request that cannot be signed so.
    #[error(transparent)]
    Signature(#[from] SignatureRefusal),
    /// A request that cannot be signed so.
    #[error(transparent)]
    HttpSignature(#[from] HttpSignatureError),
    /// No randomness for a key or a signature.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Output that cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Which profile to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileChoice {
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
pub struct VariantArgs {
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
pub enum SignedChoice {
    TimestampBody,
    Body,
    TimestampMethodPathBody,
}

/// See [`BodyForm`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub enum BodyChoice {
    Canonical,
    Raw,
}

/// See [`Encoding`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub enum EncodingChoice {
    Base64,
    Base64url,
    Hex,
}

/// See [`TimestampForm`].
#[derive(Clone, Copy, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the names say it; they are those of the configuration")]
pub enum TimestampChoice {
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
