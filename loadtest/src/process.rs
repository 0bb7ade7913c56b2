//! Processes under test: started, waited for, measured from the operating system, stopped.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::numbers::real;

/// How long a process may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end after SIGTERM, before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A running process. Dropping it stops it and whatever it started.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What the operating system has counted for a process and its descendants.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory in bytes; pages shared by several processes are counted in each.
    pub resident: u64,
}

impl Process {
    /// Starts a command; what it prints goes to `{name}.log` in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, directory: &Path) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let errors = output.try_clone()?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.with_context(|| format!("{name} cannot be started: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// When the process ends first, or takes too long; with the end of what it printed.
    pub fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + STARTS_WITHIN;
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}\n{}", self.name, self.last_words());
            }
            if Instant::now() > until {
                bail!("{} does not listen at {address}\n{}", self.name, self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// Waits until the process and its descendants have next to nothing left to do, at most three
    /// seconds: work left over from a preparation is not the next window's.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn settle(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_millis(150);
        let until = Instant::now() + Duration::from_secs(3);
        let mut before = self.usage()?.cpu;
        while Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            let now = self.usage()?.cpu;
            if now.saturating_sub(before) <= Duration::from_millis(10) {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// When it is gone.
    pub fn usage(&self) -> Result<Usage> {
        let mut total = Usage { cpu: Duration::ZERO, resident: 0 };
        for id in family(self.id()) {
            // A descendant may end while it is looked at.
            let Ok(usage) = usage_of(id) else { continue };
            total.cpu += usage.cpu;
            total.resident += usage.resident;
        }
        if total.cpu.is_zero() && total.resident == 0 {
            bail!("{} is gone\n{}", self.name, self.last_words());
        }
        Ok(total)
    }

    /// Tells it to end, waits until it has, and gives what it printed.
    ///
    /// # Errors
    /// When it has not ended by then.
    pub fn finish(mut self, within: Duration) -> Result<String> {
        signal(self.id(), Signal::TERM);
        let until = Instant::now() + within;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("{} does not end\n{}", self.name, self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(fs::read_to_string(&self.log)?)
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let mut lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.reverse();
        lines.join("\n")
    }

    fn end(&mut self) {
        let family = family(self.id());
        signal(self.id(), Signal::TERM);
        let until = Instant::now() + ENDS_WITHIN;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
        for id in family {
            signal(id, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn signal(id: u32, signal: Signal) {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// The process and all that descend from it, the process first.
fn family(id: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|id| Some((id, parent(id)?))).collect();
    let mut found = vec![id];
    let mut known = HashSet::from([id]);
    while let Some(next) = parents.iter().find(|(id, parent)| known.contains(parent) && !known.contains(id)) {
        known.insert(next.0);
        found.push(next.0);
    }
    found
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/ID/stat` behind the name, which may hold anything; the third is the first.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn parent(id: u32) -> Option<u32> {
    stat(id)?.get(1)?.parse().ok()
}

fn usage_of(id: u32) -> Result<Usage> {
    let fields = stat(id).context("no such process")?;
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    // Fields 14 and 15, counted from one, are user and system time.
    let (user, system) = ticks(11).zip(ticks(12)).context("unreadable /proc/ID/stat")?;
    let cpu = real(user + system) / real(rustix::param::clock_ticks_per_second());
    let pages = ticks(21).context("unreadable /proc/ID/stat")?;
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Ok(Usage { cpu: Duration::from_secs_f64(cpu), resident: pages * page })
}

/// A loopback address nobody listens at now.
///
/// # Errors
/// When there is none.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Where a program is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(system);
    places.find_map(|place| Some(place.join(program)).filter(|file| file.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_measured_with_its_children_and_ends_with_them() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; sleep 60' & wait"]);
        let process = Process::start("busy", &mut command, directory.path()).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while process.usage().unwrap().cpu < Duration::from_millis(50) {
            assert!(Instant::now() < until, "the child's work is not counted");
            thread::sleep(LOOK_AGAIN);
        }
        let everyone = family(process.id());
        assert!(everyone.len() >= 2, "{everyone:?}");
        drop(process);
        assert!(parent(everyone[0]).is_none(), "it still runs");
    }
}
