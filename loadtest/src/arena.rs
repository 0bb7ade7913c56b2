//! What every measurement stands on: certificates, parties, a merchant, a directory.
//!
//! Certificates, everyone who takes part, the merchant, and a directory that is removed afterwards.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use countersign::domain::clock::{Clock as _, SystemClock};
use countersign::quickstart::certificates::Certificates;
use rustls::ClientConfig;

use crate::connection::{Http, Target};
use crate::gateway::{AUTHORITY, Gateway, Options};
use crate::merchant::{Behaviour, Merchant};
use crate::placement::Placement;
use crate::population::Population;
use crate::prepare::Preparation;
use crate::process::{Process, free_address};
use crate::request::Style;

/// The ground.
pub struct Arena {
    /// Removed when the arena goes.
    pub directory: tempfile::TempDir,
    /// For every proxy.
    pub certificates: Certificates,
    /// Who takes part.
    pub everyone: Population,
    /// Behind every proxy.
    pub merchant: Merchant,
    /// The gateway's binary.
    pub binary: PathBuf,
    /// An earlier one, to compare it with.
    pub before: Option<PathBuf>,
    /// Where proxies run.
    pub placement: Placement,
    tls: Arc<ClientConfig>,
}

impl Arena {
    /// Prepares the ground.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new(everyone: Population, binary: PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let now = SystemClock.now();
        let certificates = Certificates::ensure(&directory.path().join("certs"), &[AUTHORITY], now)?;
        let tls = Arc::new(certificates.client()?);
        let merchant = Merchant::start(Behaviour::default())?;
        let (before, placement) = Default::default();
        Ok(Self { directory, certificates, everyone, merchant, binary, before, placement, tls })
    }

    /// A directory of this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn room(&self, name: &str) -> Result<PathBuf> {
        let room = self.directory.path().join(name);
        std::fs::create_dir_all(&room)?;
        Ok(room)
    }

    /// A proxy at `address`, spoken to over TLS.
    pub fn target(&self, address: SocketAddr, http: Http) -> Target {
        let tls = Some(Arc::clone(&self.tls));
        Target { address, authority: AUTHORITY.to_owned(), tls, http, from: None }
    }

    /// Makes jobs for a proxy at `address`.
    pub fn preparation(&self, address: SocketAddr, merchant: Option<&'static str>) -> Preparation {
        let target = self.target(address, Http::One);
        Preparation { target, everyone: self.everyone.clone(), merchant, style: Style::Rfc9421 }
    }

    /// Starts a gateway.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub fn gateway(&self, name: &str, everyone: &Population, options: &Options) -> Result<Gateway> {
        self.gateway_of(&self.binary, name, everyone, options)
    }

    /// Starts a gateway of the earlier binary.
    ///
    /// # Errors
    /// As [`Gateway::start`], and when no earlier binary was named.
    pub fn gateway_before(&self, name: &str, everyone: &Population, options: &Options) -> Result<Gateway> {
        let binary = self.before.as_ref().context("no earlier binary: --before PATH")?;
        self.gateway_of(binary, name, everyone, options)
    }

    fn gateway_of(
        &self,
        binary: &Path,
        name: &str,
        everyone: &Population,
        options: &Options,
    ) -> Result<Gateway> {
        let (room, merchant) = (self.room(name)?, self.merchant.address);
        self.placement
            .start(|| Gateway::start(binary, &room, &self.certificates, everyone, merchant, options))
    }

    /// Starts the plain pass-through.
    ///
    /// # Errors
    /// When it does not start.
    pub fn pass_through(&self) -> Result<(SocketAddr, Process)> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        self.pass_through_at(address, &mut command);
        let start = || Process::start("pass-through", &mut command, self.directory.path());
        let mut process = self.placement.start(start)?;
        process.wait_for(address)?;
        Ok((address, process))
    }

    /// Tells this program to be the pass-through at `address`.
    pub fn pass_through_at(&self, address: SocketAddr, command: &mut Command) {
        command.args(["pass-through", "--listen", &address.to_string()]);
        command.args(["--upstream", &self.merchant.address.to_string()]);
        command.arg("--certificate").arg(&self.certificates.certificate_file);
        command.arg("--key").arg(&self.certificates.key_file);
    }

    /// Everything in it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}
