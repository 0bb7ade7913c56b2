//! Signals: which begin a drain, which has the configuration read again, and which are only logged.
//! Each is listened for from before the store is opened, because what nobody listens for kills at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry::log::{Level, Log, Value};

/// The signals, listened for from [`Self::listen`] on.
pub struct Signals {
    draining: Draining,
    hangup: Signal,
    user2: Signal,
}

/// Those that begin a drain.
struct Draining {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user1: Signal,
}

impl Signals {
    /// Listens: from now on none of them ends the process by itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            draining: Draining {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                quit: signal(SignalKind::quit())?,
                user1: signal(SignalKind::user_defined1())?,
            },
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for a signal to drain while there is nothing to be drained yet; a SIGHUP is kept for later.
    pub async fn told_to_end(&mut self) -> &'static str {
        self.draining.any().await
    }

    /// Waits for a signal to drain, and does `on_hangup` at each SIGHUP until then; which one it was. From
    /// then on all are only logged, so that an impatient second one does not cut off what a drain is for.
    pub async fn told_to_drain(mut self, log: Log, on_hangup: impl Fn()) -> &'static str {
        tokio::spawn(ignore("SIGUSR2", self.user2, log.clone()));
        let told = loop {
            tokio::select! {
                told = self.draining.any() => break told,
                _ = self.hangup.recv() => on_hangup(),
            }
        };
        let Draining { terminate, interrupt, quit, user1 } = self.draining;
        let further = [
            ("SIGHUP", self.hangup),
            ("SIGTERM", terminate),
            ("SIGINT", interrupt),
            ("SIGQUIT", quit),
            ("SIGUSR1", user1),
        ];
        for (name, signal) in further {
            tokio::spawn(ignore(name, signal, log.clone()));
        }
        told
    }
}

impl Draining {
    /// Waits for one of them; which it was.
    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
            _ = self.user1.recv() => "SIGUSR1",
        }
    }
}

async fn ignore(name: &'static str, mut signal: Signal, log: Log) {
    while signal.recv().await.is_some() {
        log.event(Level::Warn, "signal_ignored", &[("signal", Value::Text(name))]);
    }
}
