//! What the process asks of the system for itself: privacy, and room for open files.
//!
//! That nobody looks into its memory, and room for open files.

use std::io;

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is asked for where the system sets no bound of its own; Linux grants no more than this by
/// default (`fs.nr_open`).
const MOST_OPEN_FILES: u64 = 1 << 20;

/// Keeps this process's memory, through which cards and keys pass, to itself: it leaves no core dump,
/// and only root may trace it or read it.
///
/// # Errors
/// When the system does not grant it.
pub fn hide_memory() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // Also where cores go to a program, which no limit on their size keeps them from.
    #[cfg(target_os = "linux")]
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// How many files may be open once the soft limit is raised to the hard one.
pub fn most_open_files() -> u64 {
    let limits = getrlimit(Resource::Nofile);
    let current = limits.current.unwrap_or(MOST_OPEN_FILES);
    current.max(limits.maximum.unwrap_or(MOST_OPEN_FILES))
}

/// Raises the soft limit on open files to the hard one; how many may be open now.
pub fn raise_open_files() -> u64 {
    let (limits, most) = (getrlimit(Resource::Nofile), most_open_files());
    match limits.current {
        Some(current) if current < most => {
            let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limits });
            raised.map_or(current, |()| most)
        }
        Some(_) | None => most,
    }
}
