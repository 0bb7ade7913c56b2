//! What a configuration decides of a running process, and what stays whatever it says.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, Digests};
use crate::crypto::certificate;
use crate::crypto::random;
use crate::crypto::rings::KeyRings;
use crate::domain::clock::Timestamp;
use crate::gateway::{Books, Desk, Gateway, Identities, Parts};
use crate::ledger::lease;
use crate::limit::breaker::Breakers;
use crate::limit::shared::SharedLimits;
use crate::limit::{self, Arrivals, Concurrency, Limits};
use crate::merchant::{Countersigner, Merchants, SetupError};
use crate::operator::Configured;
use crate::registry::Registry;
use crate::server::tls::{self, Door, Tls, TlsError};
use crate::server::{self, Entrance};
use crate::telemetry::log::Log;
use crate::telemetry::metrics::{Metrics, Shown};
use crate::telemetry::otlp::{self, Collector, CollectorFile, Exporting};
use crate::telemetry::tracer::Tracer;
use crate::token::{PerishableKeys, Vault};

/// What stays for as long as the process runs.
pub(super) struct Foundation {
    pub books: Arc<Books>,
    pub desk: Arc<Desk>,
    pub epochs: Arc<dyn PerishableKeys>,
    pub shared_limits: Option<Arc<dyn SharedLimits>>,
}

/// One configuration, put together.
pub(super) struct Running {
    pub gateway: Arc<Gateway>,
    pub configured: Configured,
    pub entrance: Entrance,
    pub admin_tls: Option<Tls>,
    pub registry: Arc<Registry>,
    pub rings: Arc<KeyRings>,
    pub digests: Digests,
    pub issuer: String,
    limits: limit::Settings,
    /// When the certificates of ours end that are shown, to merchants too.
    certificate_ends: Vec<(Shown, Timestamp)>,
}

/// Why a configuration cannot be put together.
pub(super) enum NotUsable {
    Tls(TlsError),
    Merchants(Vec<SetupError>),
}

/// A tracer, and what tells of what it traces, where the environment names a collector.
pub(super) fn traces(
    config: &mut Config,
    metrics: &Arc<Metrics>,
    log: &Log,
) -> Result<(Option<Tracer>, Option<Exporting>), CollectorFile> {
    let Some(settings) = config.collector.take() else { return Ok((None, None)) };
    let collector = Collector::new(settings.collector.clone())?;
    let (tracer, traces) = Tracer::new(
        settings.sampler,
        || random::bytes().ok(),
        config.traces_per_second,
        settings.queue,
        Arc::clone(metrics),
    );
    let exporting = otlp::start(collector, settings, traces, Arc::clone(metrics), log.clone());
    Ok((Some(tracer), Some(exporting)))
}

impl Foundation {
    /// Puts a configuration together. What is counted `before` it goes on: buckets, requests under way,
    /// connections to merchants whose entries are the same.
    pub(super) fn build(&self, config: Config, before: Option<&Running>) -> Result<Running, NotUsable> {
        let tls_before = before.map(|before| &before.entrance.tls);
        let tls = tls::load_again(&config.server.tls, Door::Public, tls_before).map_err(NotUsable::Tls)?;
        let admin_tls_before = before.and_then(|before| before.admin_tls.as_ref());
        let admin_files = config.server.admin_tls.as_ref();
        let admin_tls = admin_files.map(|files| tls::load_again(files, Door::Admin, admin_tls_before));
        let admin_tls = admin_tls.transpose().map_err(NotUsable::Tls)?;
        let (registry, rings) = (Arc::new(config.registry), config.keys);
        let issuer = config.public_base_url.trim_end_matches('/').to_owned();
        let countersigner = Arc::new(Countersigner::new(Arc::clone(&rings), issuer.clone()));
        let gateway_before = before.map(|before| &*before.gateway);
        let merchants = Merchants::new(
            &registry,
            Arc::clone(&countersigner),
            &config.upstream,
            gateway_before.map(Gateway::merchant_pools),
        );
        let merchants = merchants.map_err(NotUsable::Merchants)?;
        let limits = match gateway_before {
            Some(gateway) => gateway.limits().reloaded(config.limits.clone(), &registry),
            None => Limits::new(config.limits.clone(), &registry).shared_through(self.shared_limits.clone()),
        };
        let concurrency = match gateway_before {
            Some(gateway) => gateway.concurrency().reloaded(&registry),
            None => Concurrency::new(&registry),
        };
        let breakers = match gateway_before {
            Some(gateway) => gateway.breakers().reloaded(&registry),
            None => Breakers::new(&registry),
        };
        let arrivals = match before {
            Some(before) if of_arrivals(&before.limits) == of_arrivals(&config.limits) => {
                Arc::clone(&before.entrance.arrivals)
            }
            Some(_) | None => Arc::new(Arrivals::new(&config.limits)),
        };
        let parts = Parts {
            books: Arc::clone(&self.books),
            desk: Arc::clone(&self.desk),
            vault: Vault::new(Arc::clone(&rings), Arc::clone(&self.epochs)),
            limits,
            concurrency,
            breakers,
            fraud: config.fraud,
            delegate: config.protocol,
            merchants,
            body_bytes: config.server.body_bytes,
            body_timeout: config.server.body_timeout,
            countersigner,
            identities: Identities { registry: Arc::clone(&registry), rings: Arc::clone(&rings) },
        };
        let gateway = Arc::new(Gateway::new(parts, gateway_before));
        let configured = Configured {
            claims: Arc::clone(&gateway.open_claims),
            withdrawals: Arc::clone(&gateway.withdrawals),
            operators: config.operators,
        };
        let entrance = Entrance { tls, arrivals, redeemers: registry.redeemer_networks().collect() };
        let (digests, limits) = (config.digests, config.limits);
        let certificate_ends = certificate_ends(&config.server, &registry);
        Ok(Running {
            gateway,
            configured,
            entrance,
            admin_tls,
            registry,
            rings,
            digests,
            issuer,
            limits,
            certificate_ends,
        })
    }

    /// Lets everything that was begun under an earlier configuration, and will be under this one, count.
    pub(super) fn make_room_for(&self, running: &Running) {
        self.books.ledger.allow_leases_of(lease::longest(&running.registry));
        self.books.kept.limit_to(running.limits.kept_bytes);
        self.epochs.follow(&running.rings);
        running.gateway.concurrency().limit_by(&running.registry);
        running.gateway.breakers().judge_by(&running.registry);
    }
}

impl Running {
    /// Tells what a scrape says of it.
    pub(super) fn show_in_metrics(&self, metrics: &Metrics, now: Timestamp) {
        metrics.config_in_place(&self.digests.told(), now);
        metrics.set_merchants(self.registry.merchants().map(|merchant| &merchant.id));
        self.gateway.show_breakers();
        metrics.forget_certificates();
        for (shown, ends) in &self.certificate_ends {
            metrics.certificate_ends(shown, *ends);
        }
    }
}

/// Reads the certificates.
fn certificate_ends(server: &server::Settings, registry: &Registry) -> Vec<(Shown, Timestamp)> {
    let end = |path: &Path| certificate::term(certificate::of_pem_file(path).first()?).map(|term| term.ends);
    let listener = (Shown::Listener, &server.tls);
    let admin = server.admin_tls.as_ref().map(|files| (Shown::Admin, files));
    let listeners = std::iter::once(listener).chain(admin);
    let listeners = listeners.filter_map(|(shown, files)| Some((shown, end(&files.certificate)?)));
    let clients = registry.merchants().filter_map(|merchant| {
        let (path, _) = merchant.endpoint.client_certificate.as_ref()?;
        Some((Shown::Client(merchant.id.clone()), end(path)?))
    });
    listeners.chain(clients).collect()
}

/// What of the limits connections are counted by.
const fn of_arrivals(limits: &limit::Settings) -> [NonZeroU32; 3] {
    [limits.address_connections_per_second, limits.address_connection_burst, limits.tracked_addresses]
}
