//! How the verbs for operators find a gateway, as their arguments and its configuration say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::admin_client::Admin;
use super::error::CommandError;
use crate::config::overview::{self, Overview};

/// Where the credential is looked for when no argument says.
const CREDENTIAL: &str = "env:COUNTERSIGN_OPERATOR_CREDENTIAL";

/// How a running gateway is reached.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
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

pub(super) fn overview_of(file: &Path) -> Result<Overview, CommandError> {
    Overview::load(file).map_err(|errors| CommandError::Config { file: file.to_owned(), errors })
}
