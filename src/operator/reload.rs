//! A new configuration for the gateway that runs: who asks for it, and what comes of that.

use crate::config::Changes;
use crate::records::BoxFuture;

/// Who asks for the configuration to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger<'a> {
    /// SIGHUP.
    Signal,
    /// An operator of that name, through the API.
    Operator(&'a str),
    /// Nobody: its files have changed.
    Watch,
}

impl Trigger<'_> {
    /// The word in logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Operator(_) => "operator",
            Self::Watch => "watch",
        }
    }
}

/// Why the configuration that runs goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotReloaded {
    /// It was not started from a file.
    NoSource,
    /// The file has mistakes: one a line.
    Mistakes(Vec<String>),
    /// It takes away what is needed, or cannot be used: each reason.
    Refused(Vec<String>),
}

impl NotReloaded {
    /// The word in logs, metrics and answers.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::NoSource => "reload_unavailable",
            Self::Mistakes(_) => "config_invalid",
            Self::Refused(_) => "reload_refused",
        }
    }

    /// Each thing that stands in its way, in words.
    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            Self::NoSource => &[],
            Self::Mistakes(reasons) | Self::Refused(reasons) => reasons,
        }
    }
}

/// Reads the configuration again and puts it in the place of the one that runs.
pub(crate) trait Reload: Send + Sync {
    /// What that changes, or `try_out`: what it would change.
    ///
    /// # Errors
    /// [`NotReloaded`]: everything goes on as it was.
    fn reload<'a>(
        &'a self,
        trigger: Trigger<'a>,
        try_out: bool,
    ) -> BoxFuture<'a, Result<Changes, NotReloaded>>;
}
