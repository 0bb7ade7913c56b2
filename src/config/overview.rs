//! What an operator's commands need of a configuration.
//!
//! Where the gateway's admin listener and its store are. Apart from the whole, so that nobody needs the
//! secrets that the rest refers to.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::document::read_root;
use super::report::{Problem, Report};
use super::secrets::{Sources, process_environment};
pub use super::settings::AdminClient;
use super::{ConfigErrors, read_text, settings, store};
use crate::domain::secret::SecretString;
use crate::{server, storage};

/// The sections `[admin]` and `[store]`.
pub struct Overview {
    /// Where operators connect.
    pub admin_listen: SocketAddr,
    /// How, if that is with TLS.
    pub admin_tls: Option<AdminClient>,
    /// Where records and epoch keys live.
    pub store: storage::Engine,
}

impl Overview {
    /// Reads two sections of a configuration file; mistakes elsewhere do not matter.
    ///
    /// # Errors
    /// [`ConfigErrors`] holds every mistake in them.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = read_text(path)?;
        let report = Report::about(&text);
        let (document, errors) = DeTable::parse_recoverable(&text);
        if let Some(error) = errors.first() {
            let line = report.line_of(error.span().map_or(0, |span| span.start));
            report.mistake(line, String::new(), Problem::from(format!("not TOML: {}", error.message())));
        }
        let wanted = |key: &str| errors.is_empty() && matches!(key, "admin" | "store");
        let mut document: DeTable<'_> =
            document.into_inner().into_iter().filter(|(key, _)| wanted(key.get_ref())).collect();
        if let Some(DeValue::Table(store)) = document.get_mut("store").map(|store| store.get_mut()) {
            // Secrets of the gateway's, not of the operator's.
            ["password", "epoch_password"].iter().for_each(|key| drop(store.remove(*key)));
        }
        let sources = Sources::new(path.parent().unwrap_or(Path::new("")), &process_environment);
        let mut server = server::Settings::default();
        let (store, admin_tls) = read_root(&document, &report, |root| {
            let admin_tls = root.table("admin", |section| {
                // Its files are on the gateway's machine.
                let is_tls = section.passes_over("tls");
                let (_, client) = settings::admin(section, &mut server, &HashSet::new(), sources.base);
                is_tls.then_some(client)
            });
            (root.required_table("store", |section| store::store(section, &sources)), admin_tls)
        });
        let (mistakes, warnings, _) = report.finish();
        match store {
            Some(store) if mistakes.is_empty() => {
                Ok(Self { admin_listen: server.admin_listen, admin_tls, store })
            }
            _ => Err(ConfigErrors { mistakes, warnings }),
        }
    }
}

/// The secret behind a reference, `file:PATH` or `env:NAME`, given on a command line.
///
/// # Errors
/// What is wrong with it, in words that do not repeat it.
pub fn secret(reference: &str) -> Result<SecretString, String> {
    let sources = Sources::new(Path::new(""), &process_environment);
    sources.follow_text(reference).map(|found| found.text).map_err(|problem| problem.message)
}
