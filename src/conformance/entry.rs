//! The merchant that is tried: as its entry configures it, or as a few arguments do.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

use super::{ConformanceError, Keys, MerchantArgs};
use crate::config::Config;
use crate::domain::clock::{Clock, SystemClock};
use crate::quickstart::certificates::Certificates;
use crate::quickstart::configuration::{LOOPBACK, MerchantEntry, Place, Workspace, given};
use crate::registry::Merchant;
use crate::server;

/// Where the merchant fetches cards when no file says.
const LISTEN: &str = "127.0.0.1:8450";

/// A merchant, and the gateway it is tried by.
pub(super) struct Entry {
    pub config: Config,
    pub merchant: Arc<Merchant>,
    /// Where it fetches cards.
    pub listen: SocketAddr,
    /// By TLS, where a file names a certificate.
    pub tls: Option<Arc<ServerConfig>>,
    /// What is new to whoever runs the merchant: told before it is called.
    pub notes: Vec<String>,
    /// Where what is read of the file is kept, for as long as this is.
    _directory: Option<tempfile::TempDir>,
}

impl Entry {
    /// The entry of a configuration with that URL, or one made of the arguments.
    ///
    /// # Errors
    /// [`ConformanceError`].
    pub(super) fn find(arguments: &MerchantArgs) -> Result<Self, ConformanceError> {
        match &arguments.config {
            Some(file) => of_file(arguments, file),
            None => of_arguments(arguments),
        }
    }
}

fn of_file(arguments: &MerchantArgs, file: &Path) -> Result<Entry, ConformanceError> {
    let wrong = |errors| ConformanceError::Config { file: file.to_owned(), errors };
    let config = Config::load(file).map_err(wrong)?;
    let wanted = arguments.url.trim_end_matches('/');
    let is_it =
        |merchant: &&Arc<Merchant>| merchant.endpoint.base_url.to_string().trim_end_matches('/') == wanted;
    let merchant = config.registry.merchants().find(is_it).cloned().ok_or(ConformanceError::NoEntry)?;
    if !merchant.is_test && !arguments.this_is_a_test_shop {
        return Err(ConformanceError::NoTestShop);
    }
    let tls =
        server::tls::load(&config.server.tls, server::tls::Door::Public).map_err(ConformanceError::Tls)?;
    let listen = arguments.listen.unwrap_or(config.server.listen);
    Ok(Entry { config, merchant, listen, tls: Some(tls.config), notes: Vec::new(), _directory: None })
}

fn of_arguments(arguments: &MerchantArgs) -> Result<Entry, ConformanceError> {
    if !arguments.this_is_a_test_shop {
        return Err(ConformanceError::NoTestShop);
    }
    let listen = match arguments.listen {
        Some(listen) => listen,
        None => LISTEN.parse().map_err(|_| ConformanceError::NoEntry)?,
    };
    let directory = tempfile::Builder::new().prefix("countersign-conformance-").tempdir()?;
    let workspace = Workspace(directory.path());
    let certificates = Certificates::ensure(&directory.path().join("certs"), &[], SystemClock.now())?;
    // Nobody listens there: an entry is judged with the whole of its file.
    let admin = SocketAddr::from(([127, 0, 0, 1], if listen.port() == 9464 { 9465 } else { 9464 }));
    let place = Place { listen, admin, authority: listen.to_string() };
    let (credential, is_new) = given(arguments.credential.as_deref())?;
    let (redeemer, redeemer_is_new) = given(arguments.redeemer_credential.as_deref())?;
    workspace.write(&format!("{}.credential", arguments.merchant), credential.expose())?;
    let mut text = place.section(&certificates) + &workspace.keys()?;
    text += &workspace.agent("conformance")?.section();
    let authorities = arguments.ca_file.as_ref().map(std::path::absolute).transpose()?;
    let made = MerchantEntry {
        id: &arguments.merchant,
        base_url: arguments.url.trim_end_matches('/'),
        ca_file: authorities.as_deref(),
        versions: &[&arguments.api_version],
        honours_keys: arguments.idempotency == Keys::Keys,
        is_test: true,
        redeemer: &redeemer,
        network: LOOPBACK,
    };
    text += &made.section();
    let first_byte = arguments.first_byte_seconds;
    let total = first_byte.saturating_mul(3);
    let _ = writeln!(text, "deadlines = {{ first_byte = \"{first_byte}s\", total = \"{total}s\" }}");
    let file = workspace.write("countersign.toml", &text)?;
    let config = Config::load(&file).map_err(|errors| ConformanceError::Arguments { errors })?;
    let merchant = config.registry.merchants().next().cloned().ok_or(ConformanceError::NoEntry)?;
    let mut notes = Vec::new();
    if is_new {
        notes.push(format!("it is called with this bearer credential: {}", credential.expose()));
    }
    if redeemer_is_new {
        notes.push(format!("it fetches cards with this bearer credential: {}", redeemer.expose()));
    }
    Ok(Entry { config, merchant, listen, tls: None, notes, _directory: Some(directory) })
}
