//! `countersign serve`: the gateway, from its configuration to the end of its drain.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use sd_notify::NotifyState;

use super::check::check;
use super::error::CommandError;
use crate::app::{App, Source};
use crate::config::Config;
use crate::domain::clock::SystemClock;
use crate::server::signals::Signals;

/// Serves until a signal says to drain. Not when the configuration has mistakes: they go to `errors`.
///
/// # Errors
/// [`CommandError`] when it cannot start.
pub(super) async fn serve(config: &Path, errors: &mut dyn Write) -> Result<bool, CommandError> {
    let Ok(loaded) = Config::load(config) else { return Ok(check(config, errors)?) };
    let mut signals = Signals::listen()?;
    let source = Source::file(config.to_owned());
    let app = tokio::select! {
        app = App::start(loaded, Some(source), Arc::new(SystemClock)) => app?,
        // Nothing was promised to anybody: a start that waits for its store, say, ends at once.
        signal = signals.told_to_end() => {
            writeln!(errors, "countersign: {signal} while starting")?;
            return Ok(true);
        }
    };
    tell_service_manager(NotifyState::Ready);
    signals.told_to_drain(app.event_log(), || app.read_config_again()).await;
    tell_service_manager(NotifyState::Stopping);
    app.announce_shutdown().await;
    app.shutdown().await;
    Ok(true)
}

/// Under systemd's `Type=notify`; elsewhere nobody listens.
fn tell_service_manager(state: NotifyState<'_>) {
    // One that has gone is no reason not to serve.
    let _ = sd_notify::notify(&[state]);
}
