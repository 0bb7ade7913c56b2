//! Which server is the primary of which bucket.
//!
//! One of all of a standalone store, each of its own slots of a Cluster. Found out at start, and again
//! whenever a server says otherwise or is gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::connector::Connector;
use super::encoding::Bucket;
use super::link::Link;
use super::primaries::Primaries;
use super::server;
use super::settings::NodeAddress;

/// Between two looks at the topology, however many ask for one.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Why no topology is known.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Nobody answered.
    #[error("no node answers: {0}")]
    Unreachable(String),
    /// None of the servers is a primary.
    #[error("none of the nodes is a primary: promote one, or list the one that is")]
    NoPrimary,
    /// More than one is.
    #[error(
        "{0} and {1} both say that they are the primary: make one a replica of the other, \
         after looking which has the newer data"
    )]
    TwoPrimaries(NodeAddress, NodeAddress),
    /// Some slots have no primary.
    #[error("the cluster does not serve all slots")]
    Incomplete,
}

/// Who owns what.
pub(super) struct Map {
    pub(super) links: Vec<Arc<Link>>,
    owners: Vec<Arc<Link>>,
}

impl Map {
    pub(super) fn owner(&self, bucket: Bucket) -> Option<&Arc<Link>> {
        self.owners.get(bucket.index())
    }

    /// The buckets of each link.
    pub(super) fn shares(&self) -> Vec<(Arc<Link>, Vec<Bucket>)> {
        let owned_by = |link: &Arc<Link>| {
            let owns = |bucket: &Bucket| self.owner(*bucket).is_some_and(|owner| Arc::ptr_eq(owner, link));
            Bucket::all().filter(owns).collect()
        };
        self.links.iter().map(|link| (Arc::clone(link), owned_by(link))).collect()
    }
}

/// The servers of a store.
pub(super) struct Topology {
    connector: Arc<Connector>,
    primaries: Arc<Primaries>,
    map: ArcSwap<Map>,
    looked: tokio::sync::Mutex<Option<Instant>>,
}

impl Topology {
    pub(super) fn new(connector: Arc<Connector>, primaries: Arc<Primaries>) -> Self {
        let map = ArcSwap::from_pointee(Map { links: Vec::new(), owners: Vec::new() });
        Self { connector, primaries, map, looked: tokio::sync::Mutex::new(None) }
    }

    /// What is known now.
    pub(super) fn map(&self) -> Arc<Map> {
        self.map.load_full()
    }

    /// Looks again, unless somebody did a moment ago.
    pub(super) async fn refresh(&self) -> Result<(), TopologyError> {
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|at| at.elapsed() < LOOK_AT_MOST_EVERY) {
            return Ok(());
        }
        let found = self.look().await;
        *looked = Some(Instant::now());
        let addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => {
                // Nobody knows which of two has what was acknowledged: neither is used.
                if matches!(error, TopologyError::TwoPrimaries(..)) {
                    self.map.store(Arc::new(Map { links: Vec::new(), owners: Vec::new() }));
                }
                return Err(error);
            }
        };
        let known = self.map();
        let mut links: Vec<Arc<Link>> = Vec::new();
        let mut owners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let same = |link: &&Arc<Link>| link.address == address;
            let link = links.iter().find(same).or_else(|| known.links.iter().find(same)).cloned();
            let link = link.unwrap_or_else(|| {
                Arc::new(Link::new(address, Arc::clone(&self.connector), Arc::clone(&self.primaries)))
            });
            if !links.iter().any(|listed| Arc::ptr_eq(listed, &link)) {
                links.push(Arc::clone(&link));
            }
            owners.push(link);
        }
        let map = Arc::new(Map { links, owners });
        for (link, buckets) in map.shares() {
            link.take_over(buckets).await;
        }
        let map = match keep_what_answers(&map, &known).await {
            None => map,
            Some(kept) => {
                for (link, buckets) in kept.shares() {
                    link.take_over(buckets).await;
                }
                Arc::new(kept)
            }
        };
        self.map.store(map);
        Ok(())
    }

    /// The primary of each bucket, as the servers say now.
    async fn look(&self) -> Result<Vec<NodeAddress>, TopologyError> {
        let known = self.map();
        let settings = self.connector.settings();
        let addresses = known.links.iter().map(|link| &link.address).chain(&settings.nodes);
        let mut asked: Vec<&NodeAddress> = Vec::new();
        for address in addresses {
            if !asked.contains(&address) {
                asked.push(address);
            }
        }
        let answers = futures_util::future::join_all(asked.iter().map(|address| self.ask(address))).await;
        let mut primaries: Vec<NodeAddress> = Vec::new();
        let mut failures = Vec::new();
        let mut views = Vec::new();
        for (address, answer) in asked.into_iter().zip(answers) {
            match answer {
                Ok(Word::Cluster(owners)) => views.push(owners),
                Ok(Word::Primary) => primaries.push(address.clone()),
                Ok(Word::Replica) => {}
                Err(error) => failures.push(format!("{address}: {error}")),
            }
        }
        if !views.is_empty() {
            return most_say(&views).ok_or(TopologyError::Incomplete);
        }
        match primaries.as_slice() {
            [] if failures.is_empty() => Err(TopologyError::NoPrimary),
            [] => Err(TopologyError::Unreachable(failures.join("; "))),
            [primary] => Ok(vec![primary.clone(); Bucket::COUNT]),
            [one, another, ..] => Err(TopologyError::TwoPrimaries(one.clone(), another.clone())),
        }
    }

    async fn ask(&self, address: &NodeAddress) -> redis::RedisResult<Word> {
        let mut connection = self.connector.connect(address, self.connector.settings().call_timeout).await?;
        let server = server::ask(&mut connection).await?;
        if server.is_cluster {
            return Ok(Word::Cluster(cluster_owners(&mut connection, address).await?));
        }
        Ok(if server.is_primary { Word::Primary } else { Word::Replica })
    }
}

/// Where the nodes name a server that cannot be reached by that name while the link known so far
/// works, that link stays: a name that somebody announced wrongly must not end what works. `None` when
/// `map` can be taken as it is.
async fn keep_what_answers(map: &Map, known: &Map) -> Option<Map> {
    let works = |bucket: Bucket| known.owner(bucket).filter(|link| link.live().is_some());
    let trials = map.shares().into_iter().map(|(link, buckets)| async move {
        let displaces =
            buckets.iter().any(|bucket| works(*bucket).is_some_and(|old| !Arc::ptr_eq(old, &link)));
        (displaces && link.connected().await.is_err()).then_some(link)
    });
    let trials = futures_util::future::join_all(trials).await;
    let unreached: Vec<Arc<Link>> = trials.into_iter().flatten().collect();
    if unreached.is_empty() {
        return None;
    }
    let owners: Vec<Arc<Link>> = Bucket::all()
        .zip(&map.owners)
        .map(|(bucket, named)| match works(bucket) {
            Some(old) if unreached.iter().any(|link| Arc::ptr_eq(link, named)) => Arc::clone(old),
            _ => Arc::clone(named),
        })
        .collect();
    let mut links: Vec<Arc<Link>> = Vec::new();
    for owner in &owners {
        if !links.iter().any(|link| Arc::ptr_eq(link, owner)) {
            links.push(Arc::clone(owner));
        }
    }
    Some(Map { links, owners })
}

/// For each bucket, the primary that most nodes name: one that is cut off from the others still tells
/// what was.
fn most_say(views: &[Vec<Option<NodeAddress>>]) -> Option<Vec<NodeAddress>> {
    Bucket::all()
        .map(|bucket| {
            let named = || views.iter().filter_map(|view| view.get(bucket.index())?.as_ref());
            named().max_by_key(|address| named().filter(|other| other == address).count()).cloned()
        })
        .collect()
}

/// What a server says of itself.
enum Word {
    Primary,
    Replica,
    /// The primary of each bucket, where there is one.
    Cluster(Vec<Option<NodeAddress>>),
}

/// Reads `CLUSTER SLOTS`: start, end, primary (host, port, id, more of it), replicas. A node that does
/// not know its own host is reached as it was asked, one without a name of its own by its address.
async fn cluster_owners(
    connection: &mut MultiplexedConnection,
    asked: &NodeAddress,
) -> redis::RedisResult<Vec<Option<NodeAddress>>> {
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(connection).await?;
    let Value::Array(ranges) = answer else { return Ok(vec![None; Bucket::COUNT]) };
    let ranges: Vec<(i64, i64, NodeAddress)> =
        ranges.iter().filter_map(|range| slot_range(range, asked)).collect();
    Ok(Bucket::all()
        .map(|bucket| {
            let slot = i64::from(bucket.slot());
            let range = ranges.iter().find(|(start, end, _)| (*start..=*end).contains(&slot));
            range.map(|(_, _, address)| address.clone())
        })
        .collect())
}

fn slot_range(range: &Value, asked: &NodeAddress) -> Option<(i64, i64, NodeAddress)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(start), Value::Int(end), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), more @ ..] = primary.as_slice() else { return None };
    let host = known_host(host).or_else(|| address_of(more.get(1)?)).unwrap_or_else(|| asked.host.clone());
    Some((*start, *end, NodeAddress { host, port: u16::try_from(*port).ok()? }))
}

fn known_host(host: &Value) -> Option<String> {
    text(host).filter(|host| !host.is_empty() && host != "?")
}

/// The address among what else is told of a node: names, each followed by its value.
fn address_of(more: &Value) -> Option<String> {
    match more {
        Value::Array(pairs) => pairs.as_chunks::<2>().0.iter().find_map(|[name, value]| {
            text(name).filter(|name| name == "ip")?;
            known_host(value)
        }),
        Value::Map(pairs) => pairs.iter().find_map(|(name, value)| {
            text(name).filter(|name| name == "ip")?;
            known_host(value)
        }),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}
