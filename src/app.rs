//! The composition root: the one place that names concrete backends and puts the house together.

mod admin;
mod agents;
mod disks;
mod keys_held;
mod merchants_needed;
mod notices;
mod registration;
mod reload;
mod running;
mod watch;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use self::admin::{Doors, bind, readiness};
use self::agents::Agents;
use self::disks::watch_disks;
use self::notices::report;
use self::registration::Registration;
use self::reload::Reloader;
pub use self::reload::Source;
use self::running::{Foundation, NotUsable, traces};
use self::watch::watch;
use crate::config::Config;
use crate::crypto::random::RandomUnavailable;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::{Clock, Deadline, KeptClock, Timestamp};
use crate::drain::Drain;
use crate::fraud::Velocity;
use crate::gateway::{Books, Desk, Destinations, Gateway, Suspended};
use crate::idempotency::KeptBytes;
use crate::ledger::Ledger;
use crate::merchant::SetupError;
use crate::operator::Api;
use crate::operator::reload::{Reload, Trigger};
use crate::records::agreed;
use crate::records::formats::{Formats, Written};
use crate::records::key_use::{self, MissingKey};
use crate::records::replicas::NotRegistered;
use crate::records::{RecordStore, StoreError};
use crate::server::admin::Admin;
use crate::server::tls::{self, Door, TlsError};
use crate::server::{AdminTls, Server, process};
use crate::storage::{self, OpenError};
use crate::telemetry::access::Observer;
use crate::telemetry::log::{self, Level, Log, Value};
use crate::telemetry::metrics::{Metrics, MetricsError};
use crate::telemetry::otlp::CollectorFile;
use crate::token::Allotments;

/// How long the log may take to write its last lines.
const LOG_FLUSH: Duration = Duration::from_secs(2);
/// How long the last traces may take to be told.
const TRACES_WITHIN: Duration = Duration::from_secs(3);

/// How long a start waits for replicas of the store that still synchronise, and between two looks.
const REPLICAS_WITHIN: Duration = Duration::from_secs(60);
const REPLICAS_AGAIN: Duration = Duration::from_millis(200);

/// A running gateway.
pub struct App {
    public: SocketAddr,
    admin: SocketAddr,
    health: Option<SocketAddr>,
    metrics: Arc<Metrics>,
    log: Log,
    drain: Drain,
    drain_delay: Duration,
    reloader: Arc<Reloader>,
    running: JoinHandle<()>,
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The listener's certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store opened and cannot be read.
    #[error("the store cannot be read: {0}")]
    Unreadable(#[from] StoreError),
    /// It cannot take its place among the store's replicas.
    #[error(transparent)]
    NotRegistered(#[from] NotRegistered),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Keys the store depends on are missing.
    #[error("{}", list(.0))]
    MissingKeys(Vec<MissingKey>),
    /// Merchants' entries that cannot be used.
    #[error("{}", list(.0))]
    Merchants(Vec<SetupError>),
    /// Metrics cannot be registered.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The log cannot be started.
    #[error("the log cannot be started: {0}")]
    Log(std::io::Error),
    /// Nobody can look at the disks.
    #[error("the disks cannot be watched: {0}")]
    Disks(std::io::Error),
    /// A file that TLS towards the collector of traces needs.
    #[error(transparent)]
    Collector(#[from] CollectorFile),
}

impl From<NotUsable> for StartError {
    fn from(why: NotUsable) -> Self {
        match why {
            NotUsable::Tls(error) => Self::Tls(error),
            NotUsable::Merchants(errors) => Self::Merchants(errors),
        }
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}

impl App {
    /// Opens the store, binds both listeners and serves, logging to standard output. `source` is where the
    /// configuration is read from when it is to be read again.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub async fn start(
        config: Config,
        source: Option<Source>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        Self::start_logging_to(config, source, clock, log::stdout().map_err(StartError::Log)?).await
    }

    /// As [`Self::start`], logging to `sink`.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_logging_to(
        mut config: Config,
        source: Option<Source>,
        clock: Arc<dyn Clock>,
        sink: impl Write + Send + 'static,
    ) -> Result<Self, StartError> {
        let open_files = process::raise_open_files();
        let metrics = Arc::new(Metrics::new()?);
        let log = Log::start(sink, Arc::clone(&metrics), Arc::clone(&clock)).map_err(StartError::Log)?;
        let (told, counted) = (log.clone(), Arc::clone(&metrics));
        let notify = Arc::new(move |notice| report(&told, &counted, &notice));
        let measured = Arc::clone(&metrics);
        let synced = Arc::new(move |took| measured.store_synced(took));
        let clock = Arc::new(KeptClock::new(clock));
        // Before the store is opened, so that what is wrong with them is told whatever state it is in.
        tls::load(&config.server.tls, Door::Public)?;
        config.server.admin_tls.as_ref().map(|files| tls::load(files, Door::Admin)).transpose()?;
        let (tracer, traces) = traces(&mut config, &metrics, &log)?;
        let is_shared = matches!(config.store, storage::Engine::Redis { .. });
        let commits_within = config.store.commits_within();
        let (engine, keys) = (config.store.clone(), &config.keys);
        let opened = storage::open_engine(engine, Arc::clone(&clock), notify, synced, keys).await?;
        let disks = watch_disks(&config.store, &metrics).map_err(StartError::Disks)?;
        clock.agree(unless_changed(agreed::known(&*opened.records).await)?);
        let now = clock.now();
        // A store that an operator has yet to accept opens nothing meanwhile.
        refuse_missing(&*opened.records, &config.keys, now).await?;
        let written = Written::new(Formats::OLDER);
        let registration = Registration::new(&opened.records, &written, &clock, &metrics, &log)?;
        registration.begin().await?;
        note_keys(&*opened.records, &config.keys, now).await?;
        // Once more: another replica may have made a key current before it saw this one in the registry.
        refuse_missing(&*opened.records, &config.keys, now).await?;
        let (public_listener, public) = bind(config.server.listen).await?;
        let doors = Doors::open(&config.server).await?;
        let (admin, health) = (doors.admin_address, doors.health_address);

        let store: Arc<dyn RecordStore> =
            Arc::new(storage::measured::Measured::new(opened.records, Arc::clone(&metrics)));
        let drain = Drain::new(config.server.drain_timeout);
        let drain_delay = config.server.drain_delay;
        let epochs = Arc::new(opened.epochs);
        let foundation = Arc::new(Foundation {
            books: Arc::new(Books {
                ledger: Ledger::new(Arc::clone(&store), clock.clone()).writing(written),
                allotments: Allotments::new(Arc::clone(&store)),
                kept: KeptBytes::new(Arc::clone(&store), config.limits.kept_bytes),
                velocity: Arc::new(Velocity::new(Arc::clone(&store))),
            }),
            desk: Arc::new(Desk {
                observer: Observer::new(Arc::clone(&metrics), log.clone(), clock.clone(), tracer),
                clock: clock.clone(),
                drain: drain.clone(),
                destinations: Destinations::default(),
                suspended: Suspended::new(
                    Arc::clone(&store),
                    clock.clone(),
                    Arc::clone(&metrics),
                    registration.membership(),
                ),
            }),
            epochs: epochs.clone(),
            shared_limits: opened.limits,
        });
        let (books, desk) = (Arc::clone(&foundation.books), Arc::clone(&foundation.desk));
        // Before the first request, which would have to wait for it.
        unless_changed(desk.suspended.read_list().await)?;
        let mut sockets = config.server.clone();
        let watches = config.watch;
        let running = foundation.build(config, None)?;
        let followed = Arc::clone(&desk);
        let following = tokio::spawn(async move { followed.suspended.follow().await });
        foundation.make_room_for(&running);
        desk.destinations.moving().await.arrive(&running.registry);
        running.show_in_metrics(&metrics, now);
        let configured = sockets.connections;
        if sockets.bound_by(open_files) {
            let numbers = [
                ("connections", number(sockets.connections)),
                ("configured", number(configured)),
                ("open_files", Value::Number(open_files)),
            ];
            log.event(Level::Warn, "connections_bounded", &numbers);
        }
        let server = Server::new(sockets, running.entrance.clone(), Arc::clone(&metrics), log.clone());
        let admin_tls = running.admin_tls.clone().map(|tls| Arc::new(AdminTls::new(tls, clock.clone())));
        let is_watched = watches && source.as_ref().is_some_and(|source| source.file.is_some());
        let reloader = Arc::new(Reloader::new(
            source,
            foundation,
            running,
            server.entrance(),
            admin_tls.clone(),
            is_shared,
            registration.membership(),
        ));
        if is_watched {
            tokio::spawn(watch(Arc::clone(&reloader), drain.clone()));
        }
        let working = Arc::clone(&reloader.gateway);
        let worker = tokio::spawn(async move { Gateway::work_in_background(&working).await });
        let readiness = readiness(Arc::clone(&store), Arc::clone(&desk), epochs);
        let configured = Arc::clone(&reloader.configured);
        let operator = Api::new(
            configured,
            Arc::clone(&store),
            Arc::clone(&desk),
            reloader.clone(),
            opened.backup,
            registration.membership(),
            commits_within,
        );
        let admin_service = Admin::new(Arc::clone(&metrics), drain.clone(), readiness)
            .with_operator(Arc::new(operator))
            .behind(admin_tls);
        let (serving, serves) = (drain.clone(), Arc::new(Agents(Arc::clone(&reloader.gateway))));
        let running = tokio::spawn(async move {
            let (ended, end) = tokio::sync::oneshot::channel::<()>();
            let admin = tokio::spawn(doors.serve(admin_service, end));
            let (left, leave) = tokio::sync::oneshot::channel::<()>();
            let registered = tokio::spawn(registration.keep(async move {
                let _ = leave.await;
            }));
            server.run(public_listener, serves, serving).await;
            let _ = worker.await;
            books.allotments.finish(desk.clock.earliest()).await;
            books.kept.finish(desk.clock.earliest()).await;
            if let Some(at) = desk.clock.agreed() {
                // A store that does not take it now knows what it was told a minute ago.
                let _ = agreed::keep(&**books.ledger.store(), at).await;
            }
            following.abort();
            let _ = following.await;
            drop((books, desk));
            drop(left);
            let _ = registered.await;
            if let Some(traces) = traces {
                traces.end_within(TRACES_WITHIN).await;
            }
            drop(ended);
            let _ = admin.await;
            drop(disks);
        });
        let numbers =
            [("port", Value::Number(public.port().into())), ("open_files", Value::Number(open_files))];
        log.event(Level::Info, "started", &numbers);
        Ok(Self { public, admin, health, metrics, log, drain, drain_delay, reloader, running })
    }

    /// Has the configuration read again, as SIGHUP asks for, and waits for nothing; what comes of it is
    /// logged.
    pub fn read_config_again(&self) {
        let reloader = Arc::clone(&self.reloader);
        tokio::spawn(async move { reloader.reload(Trigger::Signal, false).await });
    }

    /// Where agents and merchants connect.
    pub const fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where operators connect.
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Where probes connect, if they have a listener of their own.
    pub const fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The metrics as a scrape shows them.
    pub fn metrics_text(&self) -> String {
        self.metrics.encode()
    }

    /// Where it logs.
    pub fn event_log(&self) -> Log {
        self.log.clone()
    }

    /// Turns readiness off and goes on with all work for `server.drain_delay`: what sends requests here
    /// has noticed by then, and nobody is refused.
    pub async fn announce_shutdown(&self) {
        if self.drain_delay.is_zero() {
            return;
        }
        self.log.event(Level::Info, "drain_announced", &[("begins_in", Value::Duration(self.drain_delay))]);
        self.drain.announce();
        tokio::time::sleep(self.drain_delay).await;
    }

    /// Begins to shut down: see `Drain`.
    pub fn begin_shutdown(&self) {
        self.log.event(Level::Info, "draining", &[]);
        self.drain.begin();
    }

    /// Shuts down and waits until everything under way has settled or the deadline has passed.
    pub async fn shutdown(self) {
        self.begin_shutdown();
        self.stopped().await;
    }

    /// Waits until the gateway has stopped.
    pub async fn stopped(self) {
        let _ = self.running.await;
        self.log.event(Level::Info, "stopped", &[]);
        let log = self.log;
        let _ = tokio::task::spawn_blocking(move || log.flush(LOG_FLUSH)).await;
    }
}

async fn refuse_missing(store: &dyn RecordStore, rings: &KeyRings, now: Timestamp) -> Result<(), StartError> {
    let missing = unless_changed(key_use::missing(store, rings, now).await)?;
    if missing.is_empty() { Ok(()) } else { Err(StartError::MissingKeys(missing)) }
}

/// The first write of a start: it waits for replicas that still synchronise.
async fn note_keys(records: &dyn RecordStore, rings: &KeyRings, now: Timestamp) -> Result<(), StoreError> {
    let patience = Deadline::after(REPLICAS_WITHIN);
    loop {
        match unless_changed(key_use::note(records, rings, now).await) {
            Err(StoreError::Unacknowledged) if !patience.has_passed() => {
                tokio::time::sleep(REPLICAS_AGAIN).await;
            }
            noted => return noted,
        }
    }
}

fn unless_changed<T: Default>(answer: Result<T, StoreError>) -> Result<T, StoreError> {
    match answer {
        Err(StoreError::Changed) => Ok(T::default()),
        answer => answer,
    }
}

fn number(count: usize) -> Value {
    Value::Number(u64::try_from(count).unwrap_or(u64::MAX))
}
