//! How the verbs for operators find a gateway, as their arguments and its configuration say.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use rustls::pki_types::ServerName;

use super::admin_client::Admin;
use super::error::CommandError;
use crate::config::overview::{self, AdminClient, Overview};

/// Where the credential is looked for when no argument says.
const CREDENTIAL: &str = "env:COUNTERSIGN_OPERATOR_CREDENTIAL";

/// How a running gateway is reached.
#[derive(Args, Clone, Debug)]
pub(super) struct Reach {
    /// The gateway's TOML file; of it `[admin]` and `[store]` are read.
    #[arg(long)]
    pub config: PathBuf,
    /// The admin listener, when it is not where the file says; whether it speaks TLS says the file.
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// It speaks TLS, with a certificate that these authorities vouch for: a PEM file. The file's
    /// `admin.client` says the same, and not on every command line.
    #[arg(long)]
    pub admin_ca: Option<PathBuf>,
    /// Whose certificate that is, when not the address's.
    #[arg(long, value_parser = server_name)]
    pub admin_name: Option<ServerName<'static>>,
    /// The operator's certificate, a PEM file, where the listener asks for one.
    #[arg(long, requires = "admin_key")]
    pub admin_certificate: Option<PathBuf>,
    /// Its private key.
    #[arg(long, requires = "admin_certificate")]
    pub admin_key: Option<PathBuf>,
    /// The operator's credential, by reference: env:NAME or file:PATH.
    #[arg(long, default_value = CREDENTIAL)]
    pub credential: String,
}

impl Reach {
    pub(super) fn overview(&self) -> Result<Overview, CommandError> {
        overview_of(&self.config)
    }

    pub(super) fn admin(&self) -> Result<Admin, CommandError> {
        let told = self.overview()?;
        let address = self.admin.unwrap_or(told.admin_listen);
        let credential = overview::secret(&self.credential).map_err(CommandError::Credential)?;
        Admin::new(address, self.client(told.admin_tls), credential)
    }

    /// How it is reached with TLS, where arguments or the configuration say that it speaks it.
    fn client(&self, configured: Option<AdminClient>) -> Option<AdminClient> {
        let is_said =
            self.admin_ca.is_some() || self.admin_name.is_some() || self.admin_certificate.is_some();
        let configured = configured.or_else(|| is_said.then(AdminClient::default))?;
        let (certificate, key) = match &self.admin_certificate {
            Some(certificate) => (Some(certificate.clone()), self.admin_key.clone()),
            None => (configured.certificate, configured.key),
        };
        Some(AdminClient {
            ca: self.admin_ca.clone().or(configured.ca),
            certificate,
            key,
            name: self.admin_name.clone().or(configured.name),
        })
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

pub(super) fn overview_of(file: &Path) -> Result<Overview, CommandError> {
    Overview::load(file).map_err(|errors| CommandError::Config { file: file.to_owned(), errors })
}
