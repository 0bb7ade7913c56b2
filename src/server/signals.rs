//! Signals: which of them begin a drain, and which do nothing but leave a line in the log. Each is
//! listened for from before the store is opened, because what nobody listens for kills at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::log::{Level, Log, Value};

/// The signals, listened for from [`Self::listen`] on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
    ignored: [(&'static str, Signal); 2],
}

impl Signals {
    /// Listens: from now on none of them ends the process by itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            ignored: [
                ("SIGHUP", signal(SignalKind::hangup())?),
                ("SIGUSR2", signal(SignalKind::user_defined2())?),
            ],
        })
    }

    /// Waits for a signal to drain; which one it was. From then on all are only logged, so that an
    /// impatient second one does not cut off what a drain is for.
    pub async fn told_to_drain(mut self, log: Log) -> &'static str {
        let [hangup, user2] = self.ignored;
        for (name, signal) in [hangup, user2] {
            tokio::spawn(ignore(name, signal, log.clone()));
        }
        let told = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
            _ = self.user1.recv() => "SIGUSR1",
        };
        let further = [
            ("SIGTERM", self.terminate),
            ("SIGINT", self.interrupt),
            ("SIGQUIT", self.quit),
            ("SIGUSR1", self.user1),
        ];
        for (name, signal) in further {
            tokio::spawn(ignore(name, signal, log.clone()));
        }
        told
    }
}

async fn ignore(name: &'static str, mut signal: Signal, log: Log) {
    while signal.recv().await.is_some() {
        log.event(Level::Warn, "signal_ignored", &[("signal", Value::Text(name))]);
    }
}
