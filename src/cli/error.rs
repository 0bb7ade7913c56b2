//! Why a verb could not do its work.

use std::io;
use std::path::PathBuf;

use super::admin_client::AdminError;
use crate::app::StartError;
use crate::auth::signature::SignatureRefusal;
use crate::config::ConfigErrors;
use crate::conformance::ConformanceError;
use crate::crypto::random::RandomUnavailable;
use crate::http_signature::HttpSignatureError;
use crate::quickstart::configuration::ConfigurationError;
use crate::storage::backup::BackupError;
use crate::storage::embedded::OpenError;

/// Why a verb could not do its work. Never carries a credential or a byte of a key.
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
    /// A file that does not hold what is needed, such as a key of some kind.
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
    /// The configuration's `[admin]` or `[store]`.
    #[error("{}: {errors}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        errors: ConfigErrors,
    },
    /// The credential.
    #[error(
        "no credential: {0}; give one with --credential env:NAME or file:PATH, or in COUNTERSIGN_OPERATOR_CREDENTIAL"
    )]
    Credential(String),
    /// The gateway that was asked.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What only a store of this engine's own has.
    #[error("the records are in Redis: back them up and check them with its own tools")]
    NotEmbedded,
    /// The copy.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The gateway that was to serve.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The files of a first configuration.
    #[error(transparent)]
    Workspace(Box<ConfigurationError>),
    /// The merchant that was to be tried.
    #[error(transparent)]
    Conformance(#[from] ConformanceError),
    /// Output that cannot be written, or what else the system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CommandError {
    /// Whether the reader of our output closed it, as `head` does: no failure of ours to report.
    pub fn is_closed_output(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
