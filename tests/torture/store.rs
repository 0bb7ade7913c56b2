//! The store under the gateways, and what can happen to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::hole::Hole;
use crate::redis_server::{Cluster, Options, Persistence, Replicated, Server};

/// What stands behind the gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    /// The embedded store of one process.
    Embedded,
    /// One Redis with two replicas.
    Redis,
    /// A Redis Cluster of three primaries with a replica each.
    Cluster,
}

/// How Redis is set up.
#[derive(Clone, Copy, Debug)]
pub struct RedisSettings {
    /// `store.wait_replicas`
    pub wait_replicas: u8,
    /// What the servers keep when they are killed.
    pub persistence: Persistence,
}

/// The store.
pub enum Store {
    Embedded(Disk),
    /// With the way to each node.
    Redis(Replicated, RedisSettings, Vec<Hole>),
    Cluster(Cluster, RedisSettings),
}

impl Store {
    /// Starts it; what it needs on disk is below `directory`.
    pub fn start(engine: Engine, settings: RedisSettings, directory: &Path) -> Self {
        let options = Options { persistence: settings.persistence, ..Options::default() };
        match engine {
            Engine::Embedded => Self::Embedded(Disk::mount(directory)),
            Engine::Redis => {
                let replicated = Replicated::start(&options);
                let holes = replicated.nodes.iter().map(|node| Hole::before(node.port)).collect();
                Self::Redis(replicated, settings, holes)
            }
            Engine::Cluster => Self::Cluster(Cluster::start(&options), settings),
        }
    }

    /// How many gateways can share it.
    pub const fn gateways(&self) -> usize {
        match self {
            Self::Embedded(_) => 1,
            Self::Redis(..) | Self::Cluster(..) => 2,
        }
    }

    /// Whether acknowledged writes may get lost.
    pub const fn may_lose(&self) -> bool {
        matches!(self, Self::Redis(..) | Self::Cluster(..))
    }

    /// The configuration's section about it.
    pub fn section(&self) -> String {
        let (nodes, settings) = match self {
            Self::Embedded(disk) => {
                return format!(
                    "[store]\ndirectory = \"{}\"\nepoch_directory = \"epochs\"\nmin_free_bytes = \"16MiB\"\n",
                    disk.path().join("store").display()
                );
            }
            Self::Redis(_, settings, holes) => {
                (holes.iter().map(|hole| format!("redis://{}", hole.address)).collect(), settings)
            }
            Self::Cluster(cluster, settings) => (cluster.urls(), settings),
        };
        let nodes: Vec<String> = nodes.iter().map(|url| format!("\"{url}\"")).collect();
        let accept_loss = settings.persistence == Persistence::None;
        format!(
            "[store]\nengine = \"redis\"\nnodes = [{}]\nwait_replicas = {}\naccept_loss = {accept_loss}\n\
             failover_caution = \"{FAILOVER_CAUTION}\"\nepoch_directory = \"epochs\"\n",
            nodes.join(", "),
            settings.wait_replicas,
        )
    }

    /// Kills the primary (of a slot) and lets a replica take over; the old one comes back as its
    /// replica. What it acknowledged in the last moments, for so long, is on no replica. Returns when
    /// all is well again.
    pub fn fail_over(&mut self, slot: u16, alone: Duration) {
        let (nodes, old) = match self {
            Self::Embedded(_) => return,
            Self::Redis(replicated, ..) => {
                let primary = replicated.primary_index();
                (&mut replicated.nodes, primary)
            }
            Self::Cluster(cluster, _) => {
                let primary = cluster.index_of(slot);
                (&mut cluster.nodes, primary)
            }
        };
        if alone.is_zero() {
            nodes[old].kill();
        } else {
            let ports = nodes[old].replica_ports();
            let is_replica = |index: &usize| ports.contains(&nodes[*index].port);
            let replicas: Vec<usize> = (0..nodes.len()).filter(is_replica).collect();
            // Where they are not awake to connect again, what follows does not reach them.
            replicas.iter().for_each(|index| nodes[*index].pause());
            nodes[old].command(&["CLIENT", "KILL", "TYPE", "replica"]);
            std::thread::sleep(alone);
            nodes[old].kill();
            replicas.iter().for_each(|index| nodes[*index].resume());
        }
        match self {
            Self::Embedded(_) => {}
            Self::Redis(replicated, ..) => {
                let new = replicated.most_advanced();
                replicated.promote(new);
                replicated.restart_as_replica_of(old, new);
                replicated.wait_until_in_sync();
            }
            Self::Cluster(cluster, _) => {
                cluster.wait_for_takeover(slot);
                cluster.restart(old);
                cluster.wait_until_well();
            }
        }
    }

    /// Kills everything it holds and starts it empty.
    pub fn restart_empty(&mut self) {
        match self {
            Self::Embedded(_) => {}
            Self::Redis(replicated, ..) => {
                let primary = replicated.kill_primary();
                replicated.restart_empty(primary);
                replicated.wait_until_in_sync();
            }
            Self::Cluster(cluster, _) => cluster.restart_empty(),
        }
    }

    /// Nothing is answered for so long, and everything afterwards; nobody takes over.
    pub async fn pause(&self, time: Duration) {
        let nodes = match self {
            Self::Embedded(_) => return,
            Self::Redis(replicated, ..) => std::slice::from_ref(replicated.primary()),
            // All of them: otherwise a replica would take over.
            Self::Cluster(cluster, _) => &cluster.nodes,
        };
        nodes.iter().for_each(Server::pause);
        tokio::time::sleep(time).await;
        nodes.iter().for_each(Server::resume);
        if let Self::Cluster(cluster, _) = self {
            cluster.wait_until_well();
        }
    }

    /// A primary of the cluster is silent for long enough that its replica takes over, and is then
    /// back before it knows.
    pub async fn wake_late(&self, slot: u16) {
        let Self::Cluster(cluster, _) = self else { return };
        let node = cluster.node_of(slot);
        node.pause();
        tokio::time::sleep(Duration::from_secs(4)).await;
        node.resume();
        cluster.wait_until_well();
    }

    /// Every connection of the gateways goes silent and stays open; whether that can be.
    pub fn swallow(&self) -> bool {
        let Self::Redis(_, _, holes) = self else { return false };
        holes.iter().for_each(Hole::swallow);
        true
    }

    /// Closes every connection of the gateways.
    pub fn cut(&self) {
        let nodes = match self {
            Self::Embedded(_) => return,
            Self::Redis(replicated, ..) => &replicated.nodes,
            Self::Cluster(cluster, _) => &cluster.nodes,
        };
        for node in nodes.iter().filter(|node| node.is_running()) {
            node.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        }
    }
}

/// How long after a failover the gateway is careful with what it may have forgotten.
const FAILOVER_CAUTION: &str = "1m";

/// Where the embedded store lives: a small file system of its own, which can be full without
/// anything else being full, where that can be mounted.
pub struct Disk {
    directory: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Mounts a file system in memory below `directory`, if this process may.
    fn mount(directory: &Path) -> Self {
        let directory = directory.join("disk");
        std::fs::create_dir(&directory).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", ROOMY, "countersign-torture"])
            .arg(&directory)
            .output()
            .is_ok_and(|output| output.status.success());
        Self { directory, mounted }
    }

    /// Whether it can be full.
    pub const fn can_fill(&self) -> bool {
        self.mounted
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Leaves so many bytes free, for so long.
    pub async fn fill(&self, free: u64, time: Duration) {
        let used = Command::new("du").args(["-s", "--block-size=1"]).arg(&self.directory).output().unwrap();
        let used = String::from_utf8(used.stdout).unwrap();
        let used: u64 = used.split_whitespace().next().unwrap().parse().unwrap();
        // Refused when the store has grown meanwhile: then it is not full this time.
        self.resize(&format!("size={}", used + free));
        tokio::time::sleep(time).await;
        assert!(self.resize(ROOMY), "the disk cannot be given its room back");
    }

    fn resize(&self, size: &str) -> bool {
        let options = format!("remount,{size}");
        let resized = Command::new("mount").args(["-o", &options]).arg(&self.directory).output().unwrap();
        resized.status.success()
    }

    /// Copies the store, for a gateway that is to forget what comes after.
    pub fn copy(&self, name: &str) {
        let [from, to] = ["store", name].map(|name| self.directory.join(name));
        assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    }

    /// Puts a copy in the store's place.
    pub fn restore(&self, name: &str) {
        let [store, copy] = ["store", name].map(|name| self.directory.join(name));
        std::fs::remove_dir_all(&store).unwrap();
        std::fs::rename(copy, store).unwrap();
    }
}

const ROOMY: &str = "size=8g";

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("--lazy").arg(&self.directory).status();
        }
    }
}
