//! The dashboard and the alerts (`deploy/observability`), asked of a Prometheus that scrapes a gateway.

/// Every alert, on series that make it fire and clear.
mod alerts;
/// Traces beside the samples that they show.
mod exemplars;
/// Every panel, on a gateway that buys.
mod panels;

use std::path::PathBuf;
use std::process::Command;

/// A file of `deploy/observability`.
fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/observability").join(name)
}

/// Runs Debian's `promtool`, which must be content.
fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool, of Debian's prometheus");
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{arguments:?}\n{out}\n{error}");
}
