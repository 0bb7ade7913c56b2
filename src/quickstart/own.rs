//! A gateway before a shop of yours, and one purchase through it.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::certificates::Certificates;
use super::configuration::{LOOPBACK, MerchantEntry, Place, Workspace, given};
use super::story::{self, Narrator};
use super::{QuickstartArgs, choose_place, open_agent};
use crate::acp::version::Version;
use crate::app::{App, Source};
use crate::domain::clock::{Clock, SystemClock};

/// What the shop is called at the gateway.
const SHOP: &str = "shop";
/// What the token lives.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);

/// Arguments of a quickstart with a shop of yours.
#[derive(Args, Clone, Debug, Default)]
pub struct OwnShopArgs {
    /// Put the gateway before a shop of yours instead, at this base URL, and buy one thing there with a test card.
    #[arg(long, value_name = "URL")]
    pub merchant: Option<String>,
    /// What is bought there.
    #[arg(long, default_value = "item_lamp", requires = "merchant")]
    pub item: String,
    /// The bearer credential your shop is called with, by reference: env:NAME or file:PATH. Default: a new one,
    /// which is told.
    #[arg(long, value_name = "REFERENCE", requires = "merchant")]
    pub credential: Option<String>,
    /// The bearer credential it fetches cards with, by reference. Default: a new one, which is told.
    #[arg(long, value_name = "REFERENCE", requires = "merchant")]
    pub redeemer_credential: Option<String>,
    /// Where the gateway listens. Default: 127.0.0.1:8443, or a free port.
    #[arg(long, value_name = "ADDRESS", requires = "merchant")]
    pub listen: Option<SocketAddr>,
}

/// Runs a gateway before the shop of yours that is named and buys there; stays up unless it is to end. Whether the
/// purchase went as it should. Where credentials are new, `answers` say when the shop knows them.
///
/// # Errors
/// When something cannot be started, or `out` cannot be written.
pub async fn run_before(
    quickstart: &QuickstartArgs,
    url: &str,
    answers: &mut dyn BufRead,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let QuickstartArgs { once, certificates, own: arguments } = quickstart;
    // Removed with everything in it when this ends.
    let directory = tempfile::Builder::new().prefix("countersign-quickstart-").tempdir()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let certificates = std::path::absolute(certificates)?;
    let certificates = Certificates::ensure(&certificates, &[], clock.now()).map_err(io::Error::other)?;
    let place = match arguments.listen {
        Some(listen) => {
            Place { listen, authority: format!("localhost:{}", listen.port()), ..choose_place()? }
        }
        None => choose_place()?,
    };
    let workspace = Workspace(directory.path());
    let identity = workspace.agent("shopper").map_err(io::Error::other)?;
    let (credential, is_new) = given(arguments.credential.as_deref())?;
    let (redeemer, redeemer_is_new) = given(arguments.redeemer_credential.as_deref())?;
    workspace.write(&format!("{SHOP}.credential"), credential.expose()).map_err(io::Error::other)?;
    let entry = MerchantEntry {
        id: SHOP,
        base_url: url.trim_end_matches('/'),
        ca_file: None,
        versions: &[Version::LATEST.as_str()],
        honours_keys: false,
        is_test: true,
        redeemer: &redeemer,
        network: LOOPBACK,
    };
    let text = place.section(&certificates)
        + &workspace.keys().map_err(io::Error::other)?
        + &identity.section()
        + &entry.section();
    let (path, config) = workspace.configured(&text).map_err(io::Error::other)?;
    let sink = std::fs::File::create(directory.path().join("gateway.log"))?;
    let app = App::start_logging_to(config, Some(Source::file(path)), Arc::clone(&clock), sink)
        .await
        .map_err(io::Error::other)?;
    let mut narrator = Narrator::new(out);
    narrator.line(&format!("A gateway at https://{} before {url}.\n", place.authority))?;
    narrator.line(&format!("   it trusts the authority in {}", certificates.authority_file.display()))?;
    narrator.line(&format!("   the gateway's log is {}", directory.path().join("gateway.log").display()))?;
    for (is_new, what, credential) in [
        (is_new, "your shop is called with the bearer credential", &credential),
        (redeemer_is_new, "it fetches cards with the bearer credential", &redeemer),
    ] {
        if is_new {
            narrator.line(&format!("   {what} {}", credential.expose()))?;
        }
    }
    if is_new || redeemer_is_new {
        narrator.line("\nPress Enter once your shop knows them.")?;
        // Whoever cannot be asked has not said so.
        if answers.read_line(&mut String::new())? == 0 {
            app.shutdown().await;
            return Err(io::Error::other(
                "nobody pressed Enter: give --credential and --redeemer-credential",
            ));
        }
    }
    let agent = open_agent(&identity, &app, &place, &certificates, &clock)?;
    let tell = async {
        story::tell_own(&agent, (SHOP, &arguments.item), clock.now().plus(TOKEN_LIFE), &mut narrator).await?;
        let came_true = narrator.failed().is_empty();
        if !*once {
            narrator.line("\nThe gateway stays up until you press Ctrl-C.")?;
            std::future::pending::<()>().await;
        }
        Ok(came_true)
    };
    let told = tokio::select! {
        told = tell => told,
        _ = terminate.recv() => Ok(true),
        _ = interrupt.recv() => Ok(true),
    };
    app.shutdown().await;
    told
}
