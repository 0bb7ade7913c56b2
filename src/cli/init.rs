//! `countersign init`: a first configuration, with keys, a certificate, one merchant, one agent and an operator of yours.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use crate::domain::clock::Timestamp;
use crate::domain::id::{AgentId, MerchantId};
use crate::quickstart::certificates::Certificates;
use crate::quickstart::configuration::{ConfigurationError, LOOPBACK, MerchantEntry, Place, Workspace};

/// Arguments of `init`.
#[derive(Args, Clone, Debug)]
pub(super) struct InitArgs {
    /// Where it is written; made where it is absent. One that holds a configuration is left alone.
    #[arg(long, default_value = "countersign")]
    pub directory: PathBuf,
    /// Your merchant's base URL.
    #[arg(long, value_name = "URL")]
    pub merchant_url: String,
    /// What agents call it here.
    #[arg(long, default_value = "shop", value_name = "ID")]
    pub merchant: String,
    /// The versions of ACP it accepts.
    #[arg(long = "version-of-merchant", value_name = "DATE", default_value = "2026-04-17")]
    pub versions: Vec<String>,
    /// The network it fetches cards from.
    #[arg(long, default_value = LOOPBACK, value_name = "NETWORK")]
    pub redeemer_network: String,
    /// Your first agent.
    #[arg(long, default_value = "agent", value_name = "ID")]
    pub agent: String,
    /// The host agents reach the gateway by, with its port where that is not 443.
    #[arg(long, default_value = "localhost:8443")]
    pub host: String,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,
    /// Where its admin listener does.
    #[arg(long, default_value = "127.0.0.1:9464")]
    pub admin_listen: SocketAddr,
}

/// Writes the files and says what to do with them.
///
/// # Errors
/// [`CommandError`], also where there is a configuration.
pub(super) fn init(arguments: &InitArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), CommandError> {
    if MerchantId::parse(&arguments.merchant).is_none() || AgentId::parse(&arguments.agent).is_none() {
        return Err(CommandError::Request("--merchant and --agent are letters, digits and any of .~_-"));
    }
    let directory = std::path::absolute(&arguments.directory)?;
    if directory.join("countersign.toml").exists() {
        return Err(CommandError::Request(
            "there is a countersign.toml in that directory, which is left alone",
        ));
    }
    private(&directory)?;
    let made = write(arguments, &Workspace(&directory), now);
    made.map_err(|error| CommandError::Workspace(Box::new(error)))?;
    let (directory, host) = (directory.display(), &arguments.host);
    writeln!(out, "wrote {directory}/countersign.toml, and the files it names, readable by you alone\n")?;
    writeln!(
        out,
        "Your merchant is called with {directory}/{}.credential as bearer credential,",
        arguments.merchant
    )?;
    writeln!(out, "and fetches cards at https://{host} with {directory}/redeemer.credential.")?;
    writeln!(
        out,
        "Your agent calls https://{host}/m/{} with {directory}/{agent}.credential, and signs with {directory}/{agent}.pem.",
        arguments.merchant,
        agent = arguments.agent,
    )?;
    writeln!(out, "Both trust {directory}/certs/ca.pem until server.tls names a certificate of yours.")?;
    writeln!(out, "An operator's credential is {directory}/operator.credential.\n")?;
    writeln!(out, "countersign check --config {directory}/countersign.toml")?;
    writeln!(out, "countersign doctor --config {directory}/countersign.toml")?;
    writeln!(out, "countersign serve --config {directory}/countersign.toml")?;
    Ok(())
}

/// Makes a directory that nobody else may look into.
fn private(directory: &std::path::Path) -> Result<(), CommandError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| CommandError::File { path: directory.to_owned(), source })
}

fn write(arguments: &InitArgs, workspace: &Workspace<'_>, now: Timestamp) -> Result<(), ConfigurationError> {
    let host = arguments.host.rsplit_once(':').map_or(arguments.host.as_str(), |(host, _)| host);
    let certificates = workspace.0.join("certs");
    let certificates = Certificates::ensure(&certificates, &[host], now)?;
    let agent = workspace.agent(&arguments.agent)?;
    workspace.write(&format!("{}.credential", agent.id), agent.credential.expose())?;
    let merchant = workspace.merchant(&arguments.merchant)?;
    workspace.write("redeemer.credential", merchant.redeemer_credential.expose())?;
    let (operator, about_operator) = workspace.operator()?;
    workspace.write("operator.credential", operator.expose())?;
    let place =
        Place { listen: arguments.listen, admin: arguments.admin_listen, authority: arguments.host.clone() };
    let versions: Vec<&str> = arguments.versions.iter().map(String::as_str).collect();
    let entry = MerchantEntry {
        id: &merchant.id,
        base_url: arguments.merchant_url.trim_end_matches('/'),
        ca_file: None,
        versions: &versions,
        honours_keys: false,
        is_test: false,
        redeemer: &merchant.redeemer_credential,
        network: &arguments.redeemer_network,
    };
    let text = place.section(&certificates)
        + &workspace.keys()?
        + &about_operator
        + &agent.section()
        + &entry.section();
    workspace.configured(&text).map(|_| ())
}
