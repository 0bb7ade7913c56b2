//! What is going on, on standard error: one line that changes on a terminal, nothing but news elsewhere.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Tells what is going on.
pub struct Progress {
    is_terminal: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { is_terminal: stderr().is_terminal() }
    }
}

impl Progress {
    /// What is being done now.
    pub fn show(&self, what: &str) {
        if self.is_terminal {
            let _ = write!(stderr(), "\r\x1b[2K{what}");
            let _ = stderr().flush();
        }
    }

    /// Something to be kept.
    pub fn say(&self, what: &str) {
        let start = if self.is_terminal { "\r\x1b[2K" } else { "" };
        let _ = writeln!(stderr(), "{start}{what}");
    }
}
