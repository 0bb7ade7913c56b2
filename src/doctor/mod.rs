//! Whether a gateway under this configuration would find what it needs: looked at from here, changed nowhere.

mod clocks;
mod collector;
mod finding;
pub(crate) mod machine;
mod merchants;
mod shared_store;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::config::{Config, Warning};
use crate::conformance::caller::Countersigned;
use crate::merchant::Countersigner;
use crate::registry::Merchant;
use finding::{Finding, Subject, report};

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// The TOML file.
    #[arg(long)]
    pub config: PathBuf,
    /// As one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Looks at all that a configuration names, and writes what was seen. Whether there is no fault.
///
/// # Errors
/// When `out` cannot be written.
pub async fn doctor(arguments: &DoctorArgs, out: &mut dyn Write) -> io::Result<bool> {
    let findings = examine(&arguments.config).await;
    report(&findings, arguments.json, out)
}

async fn examine(file: &Path) -> Vec<Finding> {
    let subject = Subject("configuration".to_owned());
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(errors) => {
            let mistakes = errors.mistakes.iter();
            let mut findings: Vec<Finding> =
                mistakes.map(|mistake| subject.faulty("check", mistake.to_string())).collect();
            findings.extend(warned(&subject, &errors.warnings));
            return findings;
        }
    };
    let mut findings = warned(&subject, &config.warnings);
    if findings.is_empty() {
        findings.push(subject.good("check", "no mistake and no warning"));
    }
    findings.push(machine::limits(&config.server));
    findings.extend(machine::directories(&config.store));
    findings.extend(shared_store::servers(&config.store).await);
    findings.extend(collector::collector(config.collector).await);
    let mut known: Vec<Arc<Merchant>> = config.registry.merchants().cloned().collect();
    known.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    let host = config.registry.primary_host().into();
    let countersigner = Arc::new(Countersigner::new(config.keys, config.public_base_url));
    findings.extend(merchants::all(known, &Countersigned { countersigner, host }).await);
    findings
}

/// What `check` warns of: modes of files and directories, certificates that end, names they lack.
fn warned(subject: &Subject, warnings: &[Warning]) -> Vec<Finding> {
    let told = |Warning { line, key, message }: &Warning| format!("{line}: {key}: {message}");
    warnings.iter().map(|warning| subject.doubtful("check", told(warning))).collect()
}
