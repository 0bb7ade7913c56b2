//! A primary and its replicas, without anything that decides by itself who is primary: the test does.

use super::{Options, Reply, Server, until};

/// One primary, and replicas of it.
pub struct Replicated {
    /// All servers, whatever each is now.
    pub nodes: Vec<Server>,
    primary: usize,
}

impl Replicated {
    /// Starts a primary with two replicas that have caught up. Node 0 is the primary.
    pub fn start(options: &Options) -> Self {
        Self::with(options, 2)
    }

    /// Starts a primary with so many replicas that have caught up.
    pub fn with(options: &Options, replicas: usize) -> Self {
        let nodes: Vec<_> = (0..=replicas).map(|_| Server::start(options.clone())).collect();
        let replicated = Self { nodes, primary: 0 };
        for replica in 1..=replicas {
            replicated.follow(replica, 0);
        }
        replicated.wait_until_in_sync();
        replicated
    }

    /// Which node is the primary, or was when it was killed.
    pub const fn primary_index(&self) -> usize {
        self.primary
    }

    /// The primary.
    pub fn primary(&self) -> &Server {
        &self.nodes[self.primary]
    }

    /// The replicas that run.
    pub fn replicas(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|index| *index != self.primary && self.nodes[*index].is_running())
    }

    /// Every node's URL, whatever it is now.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// `kill -9` for the primary; which one it was.
    pub fn kill_primary(&mut self) -> usize {
        self.nodes[self.primary].kill();
        self.primary
    }

    /// Makes a replica the primary, and every other one that runs its replica. It does not wait for
    /// those.
    pub fn promote(&mut self, index: usize) {
        self.nodes[index].command(&["REPLICAOF", "NO", "ONE"]);
        self.primary = index;
        for replica in self.replicas() {
            self.follow(replica, index);
        }
    }

    /// The running replica that has received most.
    pub fn most_advanced(&self) -> usize {
        let offset = |index: &usize| {
            let info = self.nodes[*index].info("slave_repl_offset").unwrap_or_default();
            info.parse::<u64>().unwrap_or_default()
        };
        self.replicas().max_by_key(offset).expect("no replica is running")
    }

    /// Starts a killed node as the replica of another: it never serves what it may have kept.
    pub fn restart_as_replica_of(&mut self, index: usize, primary: usize) {
        let following = format!("replicaof 127.0.0.1 {}", self.nodes[primary].port);
        self.nodes[index].restart_with(&[following]);
    }

    /// Starts a killed node as a primary that knows nothing, and every other one that runs as its
    /// replica, which then knows nothing either.
    pub fn restart_empty(&mut self, index: usize) {
        self.nodes[index].restart_empty();
        self.primary = index;
        for replica in self.replicas() {
            self.follow(replica, index);
        }
    }

    fn follow(&self, replica: usize, primary: usize) {
        let port = self.nodes[primary].port.to_string();
        self.nodes[replica].command(&["REPLICAOF", "127.0.0.1", &port]);
    }

    /// Waits until every replica that runs has all that the primary holds now.
    pub fn wait_until_in_sync(&self) {
        for replica in self.replicas() {
            let linked = || (self.nodes[replica].info("master_link_status")? == "up").then_some(());
            until(|| format!("no link to the primary:\n{}", self.nodes[replica].log()), linked);
        }
        let role = self.primary().command(&["ROLE"]);
        let now = role.parts().get(1).and_then(Reply::integer).unwrap();
        let has_it = |replica: &Reply| {
            let offset = replica.parts().get(2).map(Reply::text);
            offset.and_then(|offset| offset.parse().ok()).is_some_and(|offset: i64| offset >= now)
        };
        let in_sync = || {
            let role = self.primary().try_command(&["ROLE"]).ok()?;
            let replicas = role.parts().get(2)?.parts();
            (replicas.iter().filter(|replica| has_it(replica)).count() >= self.replicas().count())
                .then_some(())
        };
        until(|| format!("the replicas do not catch up:\n{}", self.primary().log()), in_sync);
    }
}
