//! `countersign check`: every mistake and warning of a configuration, one a line.
//!
//! In the form editors and build logs know (`file:line: key: message`).

use std::io::{self, Write};
use std::path::Path;

use crate::config::{Config, Warning};
use crate::crypto::keyset::Ring;
use crate::doctor::machine::connections_bounded;
use crate::domain::id::MerchantId;
use crate::registry::MerchantIdempotency;

/// Reads the configuration at `path` and writes what is wrong with it, or a short summary when
/// nothing is. Whether it is usable.
///
/// # Errors
/// When `out` cannot be written.
pub fn check(path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    let file = path.display();
    let loaded = Config::load(path);
    let warnings = match &loaded {
        Ok(config) => &config.warnings,
        Err(errors) => &errors.warnings,
    };
    if let Err(errors) = &loaded {
        for mistake in &errors.mistakes {
            writeln!(out, "{file}:{}{mistake}", if mistake.line == 0 { " " } else { "" })?;
        }
    }
    for Warning { line, key, message } in warnings {
        writeln!(out, "{file}:{line}: {key}: warning: {message}")?;
    }
    match &loaded {
        Ok(config) => summarise(config, out)?,
        Err(errors) => {
            let (mistakes, warnings) =
                (count(errors.mistakes.len(), "mistake"), count(warnings.len(), "warning"));
            writeln!(out, "{mistakes}, {warnings}")?;
        }
    }
    Ok(loaded.is_ok())
}

fn summarise(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "the configuration is fine: {}, {}, {}",
        count(config.registry.agents().count(), "agent"),
        count(config.registry.merchants().count(), "merchant"),
        count(config.warnings.len(), "warning"),
    )?;
    let how = if config.server.admin_tls.is_some() { " with TLS" } else { "" };
    writeln!(out, "listens on {}, admin on {}{how}", config.server.listen, config.server.admin_listen)?;
    if let Some(told) = connections_bounded(&config.server) {
        writeln!(out, "{told}")?;
    }
    let trusted = config.registry.merchants().filter(|known| known.idempotency == MerchantIdempotency::Keys);
    let mut trusted: Vec<_> = trusted.map(|merchant| merchant.id.as_str()).collect();
    trusted.sort_unstable();
    let trusted = trusted.join(", ");
    let trusted = if trusted.is_empty() { "nobody" } else { &trusted };
    writeln!(out, "trusted to charge an Idempotency-Key once: {trusted}")?;
    let retired: Vec<&str> = config.digests.retired.iter().map(MerchantId::as_str).collect();
    if !retired.is_empty() {
        writeln!(out, "retired, without new purchases: {}", retired.join(", "))?;
    }
    let keys = &config.keys;
    writeln!(out, "keys, the current one first:")?;
    writeln!(out, "  signing           {}", ids(&keys.signing))?;
    writeln!(out, "  sealing           {}", ids(&keys.sealing))?;
    writeln!(out, "  fingerprint       {}", ids(&keys.fingerprint))?;
    writeln!(out, "  card_fingerprint  {}", ids(&keys.card_fingerprint))?;
    writeln!(out, "  derivation        {}", ids(&keys.derivation))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn ids<K>(ring: &Ring<K>) -> String {
    ring.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(", ")
}
