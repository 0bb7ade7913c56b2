//! A cluster of three primaries with a replica each, which decides by itself who takes over.

use std::collections::BTreeSet;

use super::{Options, Server, until};

/// Hash slots of a cluster.
const SLOTS: u16 = 16_384;
const PRIMARIES: usize = 3;

/// Six nodes. Dropping it kills them.
pub struct Cluster {
    /// All nodes, whatever each is now. At first 0 to 2 are primaries, and 3 to 5 their replicas.
    pub nodes: Vec<Server>,
}

/// A line of `CLUSTER NODES`.
struct Seen {
    id: String,
    port: u16,
    flags: Vec<String>,
    follows: String,
    linked: bool,
    slots: Vec<(u16, u16)>,
}

impl Cluster {
    /// Starts it and waits until every node says that all is well.
    pub fn start(options: &Options) -> Self {
        let nodes: Vec<_> = (0..2 * PRIMARIES).map(|_| Server::node(options.clone())).collect();
        let cluster = Self { nodes };
        cluster.assemble();
        cluster
    }

    /// Makes nodes that know nothing into one cluster.
    fn assemble(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < PRIMARIES {
                let (first, last) = range(index);
                node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            }
        }
        for node in &self.nodes[1..] {
            let bus = node.bus_port.unwrap().to_string();
            self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &node.port.to_string(), &bus]);
        }
        for node in &self.nodes {
            let met = || {
                let seen = seen_by(node)?;
                let known =
                    |other: &&Seen| !other.flags.iter().any(|flag| flag == "handshake" || flag == "noaddr");
                (seen.iter().filter(known).count() == self.nodes.len()).then_some(())
            };
            until(|| format!("the nodes have not met:\n{}", node.log()), met);
        }
        for index in 0..PRIMARIES {
            let id = self.nodes[index].command(&["CLUSTER", "MYID"]).text();
            self.nodes[index + PRIMARIES].command(&["CLUSTER", "REPLICATE", &id]);
        }
        self.wait_until_well();
    }

    /// Every node's URL.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// The slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let slot = self.running().next().unwrap().command(&["CLUSTER", "KEYSLOT", key]).integer();
        slot.and_then(|slot| u16::try_from(slot).ok()).unwrap()
    }

    /// The node that serves a slot, on which every running node agrees; `None` while they do not.
    pub fn primary_of(&self, slot: u16) -> Option<usize> {
        let mut said = BTreeSet::new();
        for node in self.running() {
            let seen = seen_by(node)?;
            let serves = |other: &&Seen| {
                let has = other.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
                has && !other.flags.iter().any(|flag| flag.starts_with("fail"))
            };
            said.insert(seen.iter().find(serves).map(|other| other.port));
        }
        let port = said.pop_first().flatten().filter(|_| said.is_empty())?;
        self.nodes.iter().position(|node| node.port == port && node.is_running())
    }

    /// Which node now serves a slot.
    pub fn index_of(&self, slot: u16) -> usize {
        until(|| format!("nobody serves slot {slot}: {}", self.told()), || self.primary_of(slot))
    }

    /// The node that now serves a slot.
    pub fn node_of(&self, slot: u16) -> &Server {
        &self.nodes[self.index_of(slot)]
    }

    /// `kill -9` for the node that serves a slot; which one it was. It does not wait for another to
    /// take over.
    pub fn kill_primary_of(&mut self, slot: u16) -> usize {
        let index = self.index_of(slot);
        self.nodes[index].kill();
        index
    }

    /// Waits until another node serves a slot and all is well again; which one.
    pub fn wait_for_takeover(&self, slot: u16) -> usize {
        let index = self.index_of(slot);
        self.wait_until_served();
        index
    }

    /// Starts a killed node again over what it kept. If another has taken over meanwhile, it becomes
    /// its replica; [`Self::wait_until_well`] waits for that.
    pub fn restart(&mut self, index: usize) {
        self.nodes[index].restart();
    }

    /// Kills what still runs and makes the same nodes into a cluster that holds nothing.
    pub fn restart_empty(&mut self) {
        for node in self.nodes.iter_mut() {
            if node.is_running() {
                node.kill();
            }
            node.restart_empty();
        }
        self.assemble();
    }

    /// Waits until every running node says that every slot is served.
    pub fn wait_until_served(&self) {
        for node in self.running() {
            let served = || (state(node)? == "ok").then_some(());
            until(|| format!("the cluster is not well: {}", self.told()), served);
        }
    }

    /// Waits until every slot is served by a primary with a replica that has caught up, for each
    /// node that runs.
    pub fn wait_until_well(&self) {
        self.wait_until_served();
        let well = || {
            for node in self.running() {
                let seen = seen_by(node)?;
                let running = |other: &&Seen| self.running().any(|node| node.port == other.port);
                let all = seen.iter().filter(running).all(|other| {
                    let followed = other.flags.iter().any(|flag| flag == "slave") && other.follows != "-";
                    let linked = other.linked && !other.flags.iter().any(|flag| flag.starts_with("fail"));
                    linked && (followed || !other.slots.is_empty())
                });
                let linked = node.role()? == "master" || node.info("master_link_status")? == "up";
                if !all || !linked {
                    return None;
                }
            }
            Some(())
        };
        until(|| format!("the cluster does not become whole: {}", self.told()), well);
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// What the nodes say, for a test that fails.
    fn told(&self) -> String {
        let told = |node: &Server| {
            node.try_command(&["CLUSTER", "NODES"])
                .map_or_else(|error| error.to_string(), |reply| reply.text())
        };
        self.running().map(|node| format!("\nseen by {}:\n{}", node.port, told(node))).collect()
    }
}

/// The slots that are a primary's at first.
fn range(index: usize) -> (u16, u16) {
    let bound = |index: usize| u16::try_from(usize::from(SLOTS) * index / PRIMARIES).unwrap();
    (bound(index), bound(index + 1) - 1)
}

fn state(node: &Server) -> Option<String> {
    let info = node.try_command(&["CLUSTER", "INFO"]).ok()?.text();
    info.lines().find_map(|line| Some(line.strip_prefix("cluster_state:")?.trim().to_owned()))
}

fn seen_by(node: &Server) -> Option<Vec<Seen>> {
    let nodes = node.try_command(&["CLUSTER", "NODES"]).ok()?.text();
    Some(nodes.lines().filter_map(seen).collect())
}

/// `id ip:port@bus flags follows ping pong epoch link slots…`
fn seen(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let (_, address) = words.get(1)?.split_once(':')?;
    let slots = words.get(8..).unwrap_or_default().iter().filter_map(|word| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    Some(Seen {
        id: words.first()?.to_string(),
        port: address.split('@').next()?.parse().ok()?,
        flags: words.get(2)?.split(',').map(str::to_owned).collect(),
        follows: words.get(3)?.to_string(),
        linked: *words.get(7)? == "connected",
        slots: slots.collect(),
    })
}
