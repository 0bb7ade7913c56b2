//! One `redis-server`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Connection, LOOK_AGAIN, PATIENCE, Reply, free_port};

/// A port that is free when it is chosen may be taken a moment later.
const START_ATTEMPTS: usize = 10;
/// Lines of its log that a test shows when it fails.
const LINES: usize = 30;

/// What a server keeps when its process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing.
    #[default]
    None,
    /// An append-only file, synced every second.
    EverySecond,
    /// An append-only file, synced before each answer.
    Always,
}

/// Certificates for TLS: PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The server's, for the names clients use.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates are trusted.
    pub authority: PathBuf,
    /// Whether clients must present one too.
    pub mutual: bool,
}

/// How a server differs from one that keeps nothing and lets everybody in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it keeps.
    pub persistence: Persistence,
    /// The password of the default user.
    pub password: Option<String>,
    /// Further users as ACL rules, such as `gateway on >secret ~* +@all`.
    pub users: Vec<String>,
    /// A second port, for TLS; [`Server::tls_url`].
    pub tls: Option<Tls>,
    /// `maxmemory` and `maxmemory-policy`.
    pub memory: Option<(String, String)>,
    /// Further lines of its configuration.
    pub more: Vec<String>,
}

/// A server. Dropping it kills it.
pub struct Server {
    /// Where it listens without TLS.
    pub port: u16,
    /// Where it listens with TLS.
    pub tls_port: Option<u16>,
    /// Where the nodes of a cluster talk to each other.
    pub bus_port: Option<u16>,
    options: Options,
    directory: tempfile::TempDir,
    child: Option<Child>,
}

impl Server {
    /// Starts one and waits until it answers.
    pub fn start(options: Options) -> Self {
        Self::launch(options, false)
    }

    /// Starts a node that is yet to meet its cluster.
    pub(super) fn node(options: Options) -> Self {
        Self::launch(options, true)
    }

    fn launch(options: Options, clustered: bool) -> Self {
        for _ in 0..START_ATTEMPTS {
            let mut server = Self {
                port: free_port(),
                tls_port: options.tls.is_some().then(free_port),
                bus_port: clustered.then(free_port),
                options: options.clone(),
                directory: tempfile::tempdir().unwrap(),
                child: None,
            };
            if server.spawn(&[]) {
                return server;
            }
            let log = server.log();
            assert!(log.contains("in use"), "redis-server does not start:\n{log}");
        }
        panic!("no free port for redis-server after {START_ATTEMPTS} attempts");
    }

    /// Starts the process over what is in its directory; whether it is still there once it could
    /// have answered.
    fn spawn(&mut self, more: &[String]) -> bool {
        assert!(self.child.is_none(), "it is running");
        let path = self.directory.path().join("redis.conf");
        fs::write(&path, self.configuration(more)).unwrap();
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new("redis-server")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("redis-server is not installed; tests/run installs it");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        loop {
            if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.child = None;
                return false;
            }
            // Asked for outright: while it loads what it kept it already answers some commands, and a
            // replica that has lost its primary refuses most of them for good.
            if self.info("loading").as_deref() == Some("0") {
                return true;
            }
            assert!(Instant::now() < end, "redis-server does not answer:\n{}", self.log());
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn configuration(&self, more: &[String]) -> String {
        let Options { persistence, password, users, tls, memory, more: own } = &self.options;
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("port {}", self.port),
            format!("dir {}", self.directory.path().display()),
            "save \"\"".to_owned(),
            "shutdown-timeout 0".to_owned(),
            "enable-debug-command local".to_owned(),
            // Replicas take over from, and catch up with, a primary as fast as they can.
            "repl-diskless-sync yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
            "repl-ping-replica-period 1".to_owned(),
        ];
        match persistence {
            Persistence::None => lines.push("appendonly no".to_owned()),
            Persistence::EverySecond => {
                lines.extend(["appendonly yes", "appendfsync everysec"].map(str::to_owned))
            }
            Persistence::Always => lines.extend(["appendonly yes", "appendfsync always"].map(str::to_owned)),
        }
        if let Some(password) = password {
            lines.extend([format!("requirepass {password}"), format!("masterauth {password}")]);
        }
        lines.extend(users.iter().map(|user| format!("user {user}")));
        if let (Some(tls), Some(port)) = (tls, self.tls_port) {
            lines.extend([
                format!("tls-port {port}"),
                format!("tls-cert-file {}", tls.certificate.display()),
                format!("tls-key-file {}", tls.key.display()),
                format!("tls-ca-cert-file {}", tls.authority.display()),
                format!("tls-auth-clients {}", if tls.mutual { "yes" } else { "no" }),
            ]);
        }
        if let Some((most, policy)) = memory {
            lines.extend([format!("maxmemory {most}"), format!("maxmemory-policy {policy}")]);
        }
        if let Some(port) = self.bus_port {
            lines.extend([
                "cluster-enabled yes".to_owned(),
                format!("cluster-port {port}"),
                "cluster-config-file nodes.conf".to_owned(),
                "cluster-node-timeout 1000".to_owned(),
                // However long it has been without its primary, a replica takes over.
                "cluster-replica-validity-factor 0".to_owned(),
                // Replicas stay with the primary they were given.
                "cluster-allow-replica-migration no".to_owned(),
            ]);
        }
        lines.extend_from_slice(own);
        lines.extend_from_slice(more);
        lines.join("\n") + "\n"
    }

    /// `redis://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// `rediss://127.0.0.1:…`
    pub fn tls_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.tls_port.expect("it was started without TLS"))
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether its process runs (or is paused).
    pub const fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it is not running").id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it is not running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM: what it keeps is complete.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.child.take().unwrap().wait().unwrap();
    }

    /// SIGSTOP: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    /// Starts it again over what it kept.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again without anything it ever held.
    pub fn restart_empty(&mut self) {
        self.forget();
        self.restart();
    }

    /// Starts it again over what it kept, with further lines of configuration.
    pub(super) fn restart_with(&mut self, more: &[String]) {
        assert!(self.spawn(more), "redis-server does not start again:\n{}", self.log());
    }

    /// Removes what it kept while it is down: data and, of a node, its place in the cluster.
    pub(super) fn forget(&self) {
        assert!(self.child.is_none(), "it is running");
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else if path != self.log_path() {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// A connection of its own.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::open(self.port, self.options.password.as_deref())
    }

    /// The reply to one command; the connection is closed afterwards.
    pub fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        self.connect()?.command(words)
    }

    /// The reply to one command, which is to be no error.
    pub fn command(&self, words: &[&str]) -> Reply {
        match self.try_command(words) {
            Ok(Reply::Error(error)) => panic!("{words:?}: {error}"),
            Ok(reply) => reply,
            Err(error) => panic!("{words:?}: {error}\n{}", self.log()),
        }
    }

    /// `master`, `slave`; `None` when there is no answer.
    pub fn role(&self) -> Option<String> {
        Some(self.try_command(&["ROLE"]).ok()?.parts().first()?.text())
    }

    /// The ports of its replicas.
    pub fn replica_ports(&self) -> Vec<u16> {
        let role = self.command(&["ROLE"]);
        let replicas = role.parts().get(2).map(Reply::parts).unwrap_or_default();
        let port = |replica: &Reply| replica.parts().get(1)?.text().parse().ok();
        replicas.iter().filter_map(port).collect()
    }

    /// A line of `INFO`, such as `master_link_status`; `None` when there is no answer or no such line.
    pub fn info(&self, name: &str) -> Option<String> {
        let info = self.try_command(&["INFO", "everything"]).ok()?.text();
        info.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
    }

    /// The last lines it has written.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("redis.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
