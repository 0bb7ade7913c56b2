//! What the README's first command runs: a merchant, an agent, certificates and the gateway.
//!
//! A sample merchant, a sample agent, development certificates and the gateway, all on loopback. The
//! samples are whole enough that the tests use them as the other side of every wire.

pub mod agent;
pub mod certificates;
pub mod client;
pub mod configuration;
pub mod order;
mod own;
pub mod shop;
pub mod story;
mod suggestions;
mod variables;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::acp::version::Version;
use crate::app::{App, Source, StartError};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::secret::SecretString;
use agent::{Agent, AgentSettings};
use certificates::Certificates;
use client::Http;
use configuration::{AgentIdentity, MerchantIdentity, Place, Workspace};
pub use own::{OwnShopArgs, run_before};
use shop::{Shop, ShopSettings};
use story::{Cast, HOMEGOODS, Narrator, STATIONER};

/// Where the gateway listens if nobody else does.
const PORT: u16 = 8443;
/// And its admin listener.
const ADMIN_PORT: u16 = 9464;
/// A port that is free when it is chosen may be taken a moment later.
const START_ATTEMPTS: u8 = 5;

/// Arguments of `quickstart`.
#[derive(Args, Clone, Debug)]
pub struct QuickstartArgs {
    /// End after the story, with exit code 0 only if every step did what it says.
    #[arg(long)]
    pub once: bool,
    /// Where the development certificates are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = "certs/dev")]
    pub certificates: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as help")]
    pub own: OwnShopArgs,
}

/// Everything that runs.
struct Town {
    app: App,
    cast: Cast,
    place: Place,
    agents: [AgentIdentity; 2],
    merchants: [MerchantIdentity; 2],
    operator: Arc<SecretString>,
    certificates: Certificates,
    /// Everything of this run.
    directory: PathBuf,
    configuration: PathBuf,
    log: PathBuf,
}

/// Runs the quickstart, until interrupted unless told to end. Whether every step did what it says.
/// `program` is what a shell calls this program.
///
/// # Errors
/// When something cannot be started, or `out` cannot be written.
pub async fn run(arguments: &QuickstartArgs, program: &Path, out: &mut dyn Write) -> io::Result<bool> {
    // Removed with everything in it when this ends.
    let directory = tempfile::Builder::new().prefix("countersign-quickstart-").tempdir()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let town = Town::open(directory.path(), &arguments.certificates).await?;
    let mut narrator = Narrator::new(out);
    let told = tokio::select! {
        told = town.present(&mut narrator, arguments, program) => told,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    let came_true = told.is_ok() && narrator.failed().is_empty();
    town.app.shutdown().await;
    told.map(|()| came_true)
}

impl Town {
    async fn open(directory: &Path, certificates: &Path) -> io::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let certificates = std::path::absolute(certificates)?;
        let certificates = Certificates::ensure(&certificates, &[], clock.now()).map_err(io::Error::other)?;
        let workspace = Workspace(directory);
        let agent = |id| workspace.agent(id).map_err(io::Error::other);
        let merchant = |id| workspace.merchant(id).map_err(io::Error::other);
        let agents = [agent("concierge")?, agent("stranger")?];
        let merchants = [merchant(HOMEGOODS)?, merchant(STATIONER)?];
        let [homegoods, stationer] = &merchants;
        let [homegoods, stationer] = [
            open_shop(homegoods, &certificates, &clock).await?,
            open_shop(stationer, &certificates, &clock).await?,
        ];
        let (operator, about_operator) = workspace.operator().map_err(io::Error::other)?;
        let own = workspace.keys().map_err(io::Error::other)? + &about_operator;
        let [first, second] = &merchants;
        let parties = [(first, &homegoods), (second, &stationer)];
        let log = directory.join("gateway.log");
        let mut attempts = 0..START_ATTEMPTS;
        let (place, configuration, app) = loop {
            let place = choose_place()?;
            let (path, config) = workspace
                .configure(&place, &certificates, &own, &agents, &parties)
                .map_err(io::Error::other)?;
            let sink = std::fs::File::create(&log)?;
            let source = Source::file(path.clone());
            match App::start_logging_to(config, Some(source), Arc::clone(&clock), sink).await {
                Ok(app) => break (place, path, app),
                // Somebody took the port meanwhile.
                Err(StartError::Listen { .. }) if attempts.next().is_some() => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        for shop in [&homegoods, &stationer] {
            shop.connect(app.public_address(), &place.authority).map_err(io::Error::other)?;
        }
        let [concierge, stranger] = &agents;
        let call = |identity| open_agent(identity, &app, &place, &certificates, &clock);
        let (concierge, stranger) = (call(concierge)?, call(stranger)?);
        let cast = Cast { concierge, stranger, homegoods, stationer, clock };
        let directory = directory.to_owned();
        Ok(Self {
            app,
            cast,
            place,
            agents,
            merchants,
            operator,
            certificates,
            directory,
            configuration,
            log,
        })
    }

    async fn present(
        &self,
        narrator: &mut Narrator<'_>,
        arguments: &QuickstartArgs,
        program: &Path,
    ) -> io::Result<()> {
        self.introduce(narrator, &arguments.certificates)?;
        story::tell(&self.cast, narrator).await?;
        let failed = narrator.failed().len();
        narrator.line("")?;
        match failed {
            0 => narrator.line(&format!("All {} steps did what they say.", narrator.steps()))?,
            1 => narrator.line("1 step did not do what it says.")?,
            _ => narrator.line(&format!("{failed} steps did not do what they say."))?,
        }
        if arguments.once {
            return Ok(());
        }
        self.suggest(narrator, &arguments.certificates, program)?;
        std::future::pending().await
    }

    fn introduce(&self, narrator: &mut Narrator<'_>, certificates: &Path) -> io::Result<()> {
        let Self { cast, place, configuration, log, .. } = self;
        narrator.line("Countersign quickstart: a gateway, two shops and two agents on this machine.\n")?;
        for (name, what) in [
            ("certificates", format!("{} (development only; kept)", certificates.display())),
            ("gateway", format!("https://{}", place.authority)),
            ("admin", format!("http://{}", self.app.admin_address())),
            (HOMEGOODS, cast.homegoods.base_url().to_owned()),
            (STATIONER, cast.stationer.base_url().to_owned()),
            ("configuration", format!("{} (temporary)", configuration.display())),
            ("log", format!("{} (temporary)", log.display())),
        ] {
            narrator.line(&format!("   {name:<14}{what}"))?;
        }
        Ok(())
    }
}

pub(crate) async fn open_shop(
    merchant: &MerchantIdentity,
    certificates: &Certificates,
    clock: &Arc<dyn Clock>,
) -> io::Result<Shop> {
    let (credential, redeemer) =
        (Arc::clone(&merchant.credential), Arc::clone(&merchant.redeemer_credential));
    let settings =
        ShopSettings::new(&merchant.id, certificates.clone(), credential, redeemer, Arc::clone(clock));
    Shop::start(settings).await.map_err(io::Error::other)
}

fn open_agent(
    identity: &AgentIdentity,
    app: &App,
    place: &Place,
    certificates: &Certificates,
    clock: &Arc<dyn Clock>,
) -> io::Result<Agent> {
    Ok(Agent::new(AgentSettings {
        address: app.public_address(),
        authority: place.authority.clone(),
        tls: certificates.client().map_err(io::Error::other)?,
        http: Http::Two,
        credential: Arc::clone(&identity.credential),
        key: Arc::clone(&identity.key),
        key_id: identity.key_id.clone(),
        version: Version::LATEST,
        clock: Arc::clone(clock),
    }))
}

/// Ports people remember, or free ones. The gateway's own name holds its port, so it is chosen
/// before the gateway listens.
pub(crate) fn choose_place() -> io::Result<Place> {
    let free = |port| {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.local_addr()
    };
    let choose = |port| free(port).or_else(|_| free(0));
    let (listen, admin): (SocketAddr, SocketAddr) = (choose(PORT)?, choose(ADMIN_PORT)?);
    Ok(Place { listen, admin, authority: format!("localhost:{}", listen.port()) })
}
