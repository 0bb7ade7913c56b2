//! The machine a run was made on.

use std::fs;
use std::process::Command;

use countersign::domain::clock::{Clock as _, SystemClock};
use serde::{Deserialize, Serialize};

/// The machine, and when.
#[derive(Serialize, Deserialize, Default, Clone)]
pub struct Machine {
    /// Its processor.
    pub processor: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Its kernel.
    pub kernel: String,
    /// RFC 3339.
    pub date: String,
    /// Peers' versions.
    pub versions: Vec<String>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let asked = [("nginx", "-v"), ("haproxy", "-v"), ("redis-server", "--version")];
        Self {
            processor: model.map_or("unknown", |(_, name)| name).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            date: SystemClock.now().to_rfc3339(),
            versions: asked.iter().filter_map(|(program, flag)| version(program, flag)).collect(),
        }
    }
}

fn version(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(crate::process::find(program)?).arg(flag).output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().next()?.trim_start_matches("nginx version: ");
    Some(line.split(" - ").next()?.split(" sha=").next()?.trim().to_owned())
}
