//! The verbs `claims` and `store`: they take arguments and a writer, so that `main` only dispatches
//! and tests see what operators see.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::admin_client::{Admin, AdminError};
use crate::config::ConfigErrors;
use crate::config::overview::{self, Overview};
use crate::storage::backup::BackupError;
use crate::storage::embedded::OpenError;

/// Where the credential is looked for when no argument says.
const CREDENTIAL: &str = "env:COUNTERSIGN_OPERATOR_CREDENTIAL";

/// How a running gateway is reached.
#[derive(Args, Clone, Debug)]
pub struct Reach {
    /// The gateway's TOML file; of it `[admin]` and `[store]` are read.
    #[arg(long)]
    pub config: PathBuf,
    /// The admin listener, when it is not where the file says.
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// The operator's credential, by reference: env:NAME or file:PATH.
    #[arg(long, default_value = CREDENTIAL)]
    pub credential: String,
}

/// What can be done about open claims.
#[derive(Subcommand, Clone, Debug)]
pub enum ClaimsVerb {
    /// List the claims that are in doubt or pending.
    List(ListArgs),
    /// End one by hand, after asking the merchant whether it charged.
    Resolve(ResolveArgs),
}

/// Arguments of `claims list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// Of this merchant only.
    #[arg(long, allow_hyphen_values = true)]
    pub merchant: Option<String>,
    /// Also claims that only wait for the merchant's first answer.
    #[arg(long)]
    pub all: bool,
    /// At most so many.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `claims resolve`.
#[derive(Args, Clone, Debug)]
pub struct ResolveArgs {
    /// How the gateway is reached.
    #[command(flatten)]
    pub reach: Reach,
    /// The merchant.
    #[arg(long, allow_hyphen_values = true)]
    pub merchant: String,
    /// Its checkout session.
    #[arg(long, allow_hyphen_values = true)]
    pub session: String,
    /// The claim, as listed.
    #[arg(long, allow_hyphen_values = true)]
    pub claim: String,
    /// What the merchant says.
    #[command(flatten)]
    pub evidence: EvidenceArgs,
    /// As the gateway answers it.
    #[arg(long)]
    pub json: bool,
}

/// What an operator knows of a claim: exactly one.
#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = false)]
pub struct EvidenceArgs {
    /// It charged: the token is consumed, the session completed.
    #[arg(long)]
    pub charged: bool,
    /// It did not and will not: the token is free again.
    #[arg(long)]
    pub not_charged: bool,
}

/// What can be done about a store.
#[derive(Subcommand, Clone, Debug)]
pub enum StoreVerb {
    /// Read every record of a store that no gateway has open, and name each fault.
    Check(CheckArgs),
    /// Copy a store, also while a gateway serves from it.
    Backup(BackupArgs),
    /// Take a shared store that has lost records, or is another one, as it is now.
    Accept(Reach),
}

/// Arguments of `store check`: exactly one.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct CheckArgs {
    /// The gateway's TOML file; of it `[admin]` and `[store]` are read.
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The store's own directory, a backup's for example.
    #[arg(long)]
    pub directory: Option<PathBuf>,
}

/// Arguments of `store backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// How the gateway is reached, if it runs.
    #[command(flatten)]
    pub reach: Reach,
    /// A directory that does not exist yet.
    #[arg(long)]
    pub to: PathBuf,
}

/// Why a verb could not do its work. Never carries a credential.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
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
    /// The gateway.
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
    /// Output that cannot be written, or a path that cannot be followed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<CommandError> for io::Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Io(error) => error,
            other => Self::other(other),
        }
    }
}

impl Reach {
    pub(super) fn overview(&self) -> Result<Overview, CommandError> {
        overview_of(&self.config)
    }

    pub(super) fn admin(&self) -> Result<Admin, CommandError> {
        let address = match self.admin {
            Some(address) => address,
            None => self.overview()?.admin_listen,
        };
        let credential = overview::secret(&self.credential).map_err(CommandError::Credential)?;
        Ok(Admin::new(address, credential))
    }
}

pub(super) fn overview_of(file: &std::path::Path) -> Result<Overview, CommandError> {
    Overview::load(file).map_err(|errors| CommandError::Config { file: file.to_owned(), errors })
}
