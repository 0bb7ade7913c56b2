//! The configuration read again, judged against the one that runs, and put in its place whole.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::keys_held::KeysHeld;
use super::merchants_needed::{MerchantsNeeded, say_retired};
use super::running::{Foundation, NotUsable, Running};
use crate::auth::Known;
use crate::config::{Changes, Config, ConfigErrors};
use crate::crypto::rings::KeyRings;
use crate::domain::id::MerchantId;
use crate::gateway::Gateway;
use crate::operator::Configured;
use crate::operator::reload::{NotReloaded, Reload, Trigger};
use crate::records::replicas::Membership;
use crate::records::{BoxFuture, key_use};
use crate::registry::Registry;
use crate::server::{AdminTls, EntranceInUse};
use crate::telemetry::log::{Identifier, Level, Value};

/// How long completes may wait for a reload at most.
const HELD_UP: Duration = Duration::from_secs(2);
/// Of agents or merchants, the part that may go without anybody asking for it.
const GONE_UNASKED: usize = 10;

/// Where the configuration is read from, again and again.
#[derive(Clone)]
pub struct Source {
    /// Reads it. May block.
    pub read: Arc<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>,
    /// Its own file.
    pub file: Option<PathBuf>,
}

impl Source {
    /// A file, and what it names.
    pub fn file(path: PathBuf) -> Self {
        Self { file: Some(path.clone()), read: Arc::new(move || Config::load(&path)) }
    }
}

/// Puts configurations in the place of the one that runs.
pub(super) struct Reloader {
    pub source: Option<Source>,
    pub foundation: Arc<Foundation>,
    pub gateway: Arc<ArcSwap<Gateway>>,
    pub configured: Arc<ArcSwap<Configured>>,
    pub entrance: EntranceInUse,
    pub admin_tls: Option<Arc<AdminTls>>,
    /// Whether other processes work on the same store.
    pub is_shared: bool,
    membership: Arc<Membership>,
    state: Mutex<State>,
}

struct State {
    running: Arc<Running>,
    keys: KeysHeld,
    retired: BTreeSet<MerchantId>,
}

impl Reloader {
    /// Begins with what runs.
    pub(super) fn new(
        source: Option<Source>,
        foundation: Arc<Foundation>,
        running: Running,
        entrance: EntranceInUse,
        admin_tls: Option<Arc<AdminTls>>,
        is_shared: bool,
        membership: Arc<Membership>,
    ) -> Self {
        let gateway = Arc::new(ArcSwap::new(Arc::clone(&running.gateway)));
        let configured = Arc::new(ArcSwap::from_pointee(running.configured.clone()));
        let mut retired = BTreeSet::new();
        say_retired(&running.registry, &mut retired, &membership);
        let keys = KeysHeld::new(&running.rings, Arc::clone(&membership), foundation.desk.clock.steady());
        let state = Mutex::new(State { running: Arc::new(running), keys, retired });
        Self { source, foundation, gateway, configured, entrance, admin_tls, is_shared, membership, state }
    }

    /// The files that what runs was read from.
    pub(super) async fn files(&self) -> BTreeSet<PathBuf> {
        let own = self.source.as_ref().and_then(|source| source.file.clone());
        let state = self.state.lock().await;
        own.into_iter().chain(state.running.digests.files.iter().cloned()).collect()
    }

    async fn take(&self, trigger: Trigger<'_>, try_out: bool) -> Result<Changes, NotReloaded> {
        let source = self.source.clone().ok_or(NotReloaded::NoSource)?;
        // Before anything is read: two at once would each judge by what the other replaces.
        let state = &mut *self.state.lock().await;
        let read = tokio::task::spawn_blocking(move || (source.read)()).await;
        let config = match read {
            Ok(Ok(config)) => config,
            Ok(Err(errors)) => return Err(NotReloaded::Mistakes(texts(&errors.mistakes))),
            Err(panicked) => return Err(NotReloaded::Refused(vec![panicked.to_string()])),
        };
        let changes = Changes::between(&state.running.digests, &config.digests);
        if changes.is_empty() {
            return Ok(changes);
        }
        let reasons = self.objections(state, &config, &changes, trigger).await;
        if !reasons.is_empty() {
            return Err(NotReloaded::Refused(reasons));
        }
        let built = self.build(config, &state.running).await?;
        if try_out {
            return Ok(changes);
        }
        let clock = &self.foundation.desk.clock;
        // Before anything depends on a key, the store says so: a later start without it is refused.
        let noted =
            key_use::note(&**self.foundation.books.ledger.store(), &built.rings, clock.latest()).await;
        noted.map_err(|error| NotReloaded::Refused(vec![format!("the store cannot be written: {error}")]))?;
        // A replica that has started since was let in without the keys that are noted only now.
        let lacking = self.keys_too_new(state, &built.rings).await;
        if !lacking.is_empty() {
            return Err(NotReloaded::Refused(lacking));
        }
        // From here on no claim is begun until what runs is replaced: who is in the way is looked for once
        // more, because claims were begun meanwhile.
        let moving = self.foundation.desk.destinations.moving().await;
        let late = self.claims_in_the_way(state, &built.registry, &changes);
        // Everybody's completes wait meanwhile.
        let late = tokio::time::timeout(HELD_UP, late)
            .await
            .unwrap_or_else(|_| vec!["the open claims could not be looked at in time: try again".to_owned()]);
        if !late.is_empty() {
            return Err(NotReloaded::Refused(late));
        }
        self.foundation.make_room_for(&built);
        built.show_in_metrics(self.foundation.desk.observer.metrics(), clock.now());
        self.entrance.replace(built.entrance.clone());
        if let (Some(used), Some(tls)) = (&self.admin_tls, &built.admin_tls) {
            used.renew(tls.clone());
        }
        if !changes.agents.is_empty() || !changes.merchants.is_empty() {
            // Whose credential has gone keeps its connection, and no place before others.
            self.entrance.forget_strangers(&Known::of(built.registry.credentials()));
        }
        self.gateway.store(Arc::clone(&built.gateway));
        self.configured.store(Arc::new(built.configured.clone()));
        moving.arrive(&built.registry);
        state.keys.replace_by(&built.rings, clock.steady());
        say_retired(&built.registry, &mut state.retired, &self.membership);
        state.running = Arc::new(built);
        Ok(changes)
    }

    /// Puts it together where files may be read.
    async fn build(&self, config: Config, running: &Arc<Running>) -> Result<Running, NotReloaded> {
        let (foundation, running) = (Arc::clone(&self.foundation), Arc::clone(running));
        let building = tokio::task::spawn_blocking(move || foundation.build(config, Some(&running)));
        let built = building.await.map_err(|panicked| NotReloaded::Refused(vec![panicked.to_string()]))?;
        built.map_err(|why| {
            NotReloaded::Refused(match why {
                NotUsable::Tls(error) => vec![error.to_string()],
                NotUsable::Merchants(errors) => texts(&errors),
            })
        })
    }

    /// Everything that the new configuration takes away and is needed.
    async fn objections(
        &self,
        state: &State,
        config: &Config,
        changes: &Changes,
        trigger: Trigger<'_>,
    ) -> Vec<String> {
        let running = &state.running;
        let mut reasons: Vec<String> = Vec::new();
        for table in &changes.fixed {
            reasons.push(format!(
                "[{table}]: only a restart changes it, but for certificates, hosts and operators"
            ));
        }
        if config.server.admin_tls.is_some() != self.admin_tls.is_some() {
            reasons.push("[admin.tls]: only a restart brings it or takes it away".to_owned());
        }
        if config.public_base_url.trim_end_matches('/') != running.issuer {
            reasons.push(
                "server.hosts: the first is the issuer of grants, which only a restart changes".to_owned(),
            );
        }
        if trigger == Trigger::Watch {
            reasons.extend(gone_unasked(
                "agents",
                changes.agents.removed.len(),
                running.digests.agents.len(),
            ));
            let merchants = running.digests.merchants.len();
            reasons.extend(gone_unasked("merchants", changes.merchants.removed.len(), merchants));
        }
        for (ring, id) in &changes.other_secrets {
            reasons.push(format!(
                "keys.{ring}: \"{id}\" has another secret: what was made with it would not open; a new secret \
                 has a new id"
            ));
        }
        reasons.extend(self.missing_keys(config).await);
        reasons.extend(self.keys_too_new(state, &config.keys).await);
        reasons.extend(self.claims_in_the_way(state, &config.registry, changes).await);
        reasons
    }

    async fn missing_keys(&self, config: &Config) -> Vec<String> {
        let store = self.foundation.books.ledger.store();
        match key_use::missing(&**store, &config.keys, self.foundation.desk.clock.earliest()).await {
            Ok(missing) => texts(&missing),
            Err(error) => vec![format!("nobody knows which keys are needed: {error}")],
        }
    }

    async fn keys_too_new(&self, state: &State, after: &KeyRings) -> Vec<String> {
        let (store, now) = (self.foundation.books.ledger.store(), self.foundation.desk.clock.steady());
        state.keys.too_new(&state.running.rings, after, &**store, self.is_shared, now).await
    }

    /// Merchants whose claims could not be ended under the new configuration, or not be judged alike.
    async fn claims_in_the_way(&self, state: &State, after: &Registry, changes: &Changes) -> Vec<String> {
        let needed = MerchantsNeeded {
            gateway: &self.gateway.load(),
            store: &**self.foundation.books.ledger.store(),
            membership: &self.membership,
            is_shared: self.is_shared,
            now: self.foundation.desk.clock.steady(),
        };
        needed.reasons_against(&state.running.registry, after, changes).await
    }

    /// Tells what came of it.
    fn tell_outcome(&self, trigger: Trigger<'_>, outcome: &Result<Changes, NotReloaded>) {
        let observer = &self.foundation.desk.observer;
        let mut by = vec![("by", Value::Text(trigger.as_str()))];
        if let Trigger::Operator(name) = trigger {
            by.extend(Identifier::parse(name).map(|name| ("operator", Value::Id(name))));
        }
        match outcome {
            // Files were touched, and say what they said.
            Ok(changes) if changes.is_empty() && trigger == Trigger::Watch => {}
            Ok(changes) if changes.is_empty() => {
                observer.metrics().reloaded("unchanged");
                observer.log().event(Level::Info, "config_unchanged", &by);
            }
            Ok(changes) => {
                observer.metrics().reloaded("applied");
                let count = |count: usize| Value::Number(u64::try_from(count).unwrap_or(u64::MAX));
                let of = |entries: &crate::config::Entries| {
                    count(entries.added.len() + entries.removed.len() + entries.changed.len())
                };
                by.extend([
                    ("agents", of(&changes.agents)),
                    ("merchants", of(&changes.merchants)),
                    ("tables", Value::Message(changes.tables.join(", "))),
                ]);
                observer.log().event(Level::Info, "config_reloaded", &by);
            }
            Err(why) => {
                observer.metrics().reloaded(why.as_str());
                // A line each, as `check` prints them.
                for reason in why.reasons() {
                    let reason = [("reason", Value::Message(reason.clone()))];
                    observer.log().event(
                        Level::Error,
                        why.as_str(),
                        &[by.as_slice(), reason.as_slice()].concat(),
                    );
                }
                if why.reasons().is_empty() {
                    observer.log().event(Level::Error, why.as_str(), &by);
                }
            }
        }
    }
}

impl Reload for Reloader {
    fn reload<'a>(
        &'a self,
        trigger: Trigger<'a>,
        try_out: bool,
    ) -> BoxFuture<'a, Result<Changes, NotReloaded>> {
        Box::pin(async move {
            let outcome = self.take(trigger, try_out).await;
            if !try_out {
                self.tell_outcome(trigger, &outcome);
            }
            outcome
        })
    }
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

fn gone_unasked(what: &str, gone: usize, of: usize) -> Option<String> {
    (gone * GONE_UNASKED > of).then(|| {
        format!("{what}: {gone} of {of} would go, more than a tenth: nothing that big happens unless it is asked for")
    })
}
