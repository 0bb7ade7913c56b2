//! Which cores the proxy runs on, and which everything else.

use std::fs;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Where what is measured runs, and where what measures it.
#[derive(Clone, Default)]
pub enum Placement {
    /// Everything on every core.
    #[default]
    Shared,
    /// The proxy alone on one core, everything else on the others.
    Pinned(Arc<Pinned>),
}

/// Keeps this process off the proxy's core for as long as it lives.
pub struct Pinned {
    proxy: CpuSet,
    rest: CpuSet,
    before: CpuSet,
}

impl Placement {
    /// The first core that this process may use for the proxy, the others for this process and
    /// whatever else it starts, until the last clone is dropped.
    ///
    /// # Errors
    /// When there is only one core, or the system does not let a thread be moved.
    pub fn pinned() -> Result<Self> {
        let before = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let first = cores.next().context("there is no core")?;
        let (mut proxy, mut rest) = (CpuSet::new(), before);
        proxy.set(first);
        rest.unset(first);
        if rest.count() == 0 {
            bail!("one core is too few: the proxy is to have one of its own");
        }
        let pinned = Pinned { proxy, rest, before };
        move_all(&pinned.rest)?;
        Ok(Self::Pinned(Arc::new(pinned)))
    }

    /// Cores the proxy has: for proxies that are told how many threads to start.
    pub fn proxy_cores(&self) -> usize {
        match self {
            Self::Shared => thread::available_parallelism().map_or(1, usize::from),
            Self::Pinned(_) => 1,
        }
    }

    /// Starts the proxy on its cores. A process runs where the thread ran that started it.
    ///
    /// # Errors
    /// When it does not start, or the thread cannot be moved.
    pub fn start<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        let Self::Pinned(pinned) = self else { return start() };
        sched_setaffinity(None, &pinned.proxy)?;
        let started = start();
        sched_setaffinity(None, &pinned.rest)?;
        started
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Where it is refused, what follows is measured on fewer cores than there are.
        let _ = move_all(&self.before);
    }
}

/// Moves every thread of this process. Those they start later begin where these are.
fn move_all(cores: &CpuSet) -> Result<()> {
    for entry in fs::read_dir("/proc/self/task")? {
        let thread = entry?.file_name();
        let thread = thread.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
        match sched_setaffinity(thread, cores) {
            // It ended meanwhile.
            Err(rustix::io::Errno::SRCH) => {}
            moved => moved?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The cores a child that is started now may use, as it says itself.
    fn child() -> String {
        let output = Command::new("sh").args(["-c", "grep Cpus_allowed_list /proc/self/status"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn the_proxy_has_a_core_of_its_own_until_the_placement_ends() {
        let (before, may_use) = (child(), sched_getaffinity(None).unwrap());
        if may_use.count() < 2 {
            assert!(Placement::pinned().is_err());
            return;
        }
        let pinned = Placement::pinned().unwrap();
        let proxy = pinned.start(|| Ok(child())).unwrap();
        let rest = child();
        assert!(proxy != rest && proxy != before && rest != before, "{before} {proxy} {rest}");
        assert_eq!(thread::spawn(child).join().unwrap(), rest, "a thread of this process runs with the rest");
        assert_eq!((pinned.proxy_cores(), Placement::Shared.start(|| Ok(child())).unwrap()), (1, rest));
        drop(pinned);
        assert_eq!(child(), before);
    }
}
