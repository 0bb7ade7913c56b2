//! Whether the Redis servers of the tests do what the tests rely on.
#![cfg(test)]
#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]

#[path = "redis_server/mod.rs"]
mod redis_server;

use std::process::Command;

use redis_server::{Cluster, Connection, Options, Persistence, Replicated, Reply, Server, Tls};

fn set(server: &Server, key: &str, value: &str) {
    server.command(&["SET", key, value]);
}

fn get(server: &Server, key: &str) -> Option<String> {
    match server.command(&["GET", key]) {
        Reply::Nil => None,
        value => Some(value.text()),
    }
}

#[test]
fn a_server_keeps_after_a_kill_what_it_is_told_to_keep() {
    for (persistence, kept) in [(Persistence::None, None), (Persistence::Always, Some("1".to_owned()))] {
        let mut server = Server::start(Options { persistence, ..Options::default() });
        set(&server, "a", "1");
        server.kill();
        assert!(server.try_command(&["PING"]).is_err());
        server.restart();
        assert_eq!(get(&server, "a"), kept, "{persistence:?}");
        set(&server, "a", "2");
        server.stop();
        server.restart_empty();
        assert_eq!(get(&server, "a"), None);
    }
}

#[test]
fn a_paused_server_answers_when_it_is_resumed() {
    let server = Server::start(Options::default());
    server.pause();
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    };
    while state() != 'T' {
        std::thread::yield_now();
    }
    server.resume();
    assert_eq!(server.command(&["PING"]), Reply::Status("PONG".to_owned()));
}

#[test]
fn passwords_users_and_memory_are_as_configured() {
    let server = Server::start(Options {
        password: Some("secret".to_owned()),
        users: vec!["reader on >other ~* +get +ping".to_owned()],
        memory: Some(("64mb".to_owned(), "noeviction".to_owned())),
        ..Options::default()
    });
    let mut stranger = Connection::open(server.port, None).unwrap();
    assert!(stranger.command(&["GET", "a"]).unwrap().text().starts_with("NOAUTH"));
    assert_eq!(stranger.command(&["AUTH", "reader", "other"]).unwrap(), Reply::Status("OK".to_owned()));
    assert_eq!(stranger.command(&["GET", "a"]).unwrap(), Reply::Nil);
    assert!(stranger.command(&["SET", "a", "1"]).unwrap().text().starts_with("NOPERM"));
    assert_eq!(server.info("maxmemory").unwrap(), (64 << 20).to_string());
    assert_eq!(server.info("maxmemory_policy").unwrap(), "noeviction");
}

#[test]
fn tls_is_spoken_on_a_port_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(names).unwrap();
    let [certificate, key] =
        [("cert.pem", cert.pem()), ("key.pem", signing_key.serialize_pem())].map(|(name, pem)| {
            let path = directory.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path
        });
    let tls = Tls { authority: certificate.clone(), certificate: certificate.clone(), key, mutual: false };
    let server = Server::start(Options { tls: Some(tls), ..Options::default() });
    assert!(server.tls_url().starts_with("rediss://"));
    let ping = |authority: &std::path::Path| {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &server.tls_port.unwrap().to_string(), "--tls", "--cacert"]).arg(authority);
        client.arg("PING").output().unwrap()
    };
    assert_eq!(ping(&certificate).stdout, b"PONG\n");
    let rcgen::CertifiedKey { cert, .. } =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = directory.path().join("other.pem");
    std::fs::write(&other, cert.pem()).unwrap();
    assert_ne!(ping(&other).stdout, b"PONG\n");
}

#[test]
fn a_replica_takes_over_and_the_old_primary_follows_it() {
    let mut replicated = Replicated::start(&Options::default());
    set(replicated.primary(), "a", "1");
    replicated.wait_until_in_sync();
    let old = replicated.kill_primary();
    let new = replicated.most_advanced();
    assert_ne!(old, new);
    replicated.promote(new);
    assert_eq!(get(replicated.primary(), "a").as_deref(), Some("1"));
    set(replicated.primary(), "b", "2");
    replicated.restart_as_replica_of(old, new);
    replicated.wait_until_in_sync();
    assert_eq!(replicated.replicas().count(), 2);
    for node in &replicated.nodes {
        assert_eq!(get(node, "a").as_deref(), Some("1"));
        assert_eq!(get(node, "b").as_deref(), Some("2"));
    }
}

#[test]
fn a_primary_restarted_empty_takes_its_replicas_with_it() {
    let mut replicated = Replicated::start(&Options::default());
    set(replicated.primary(), "a", "1");
    let old = replicated.kill_primary();
    replicated.restart_empty(old);
    replicated.wait_until_in_sync();
    assert!(replicated.nodes.iter().all(|node| get(node, "a").is_none()));
}

#[test]
fn a_node_of_a_cluster_takes_over_and_the_old_one_follows_it() {
    let mut cluster = Cluster::start(&Options::default());
    let slot = cluster.slot_of("a");
    // What is waited for is what the same connection has written.
    let mut writer = cluster.node_of(slot).connect().unwrap();
    assert_eq!(writer.command(&["SET", "a", "1"]).unwrap(), Reply::Status("OK".to_owned()));
    assert_eq!(writer.command(&["WAIT", "1", "5000"]).unwrap(), Reply::Integer(1));
    let old = cluster.kill_primary_of(slot);
    let new = cluster.wait_for_takeover(slot);
    assert_ne!(old, new);
    assert_eq!(get(&cluster.nodes[new], "a").as_deref(), Some("1"));
    cluster.restart(old);
    cluster.wait_until_well();
    assert_eq!(cluster.nodes[old].role().as_deref(), Some("slave"));
    // And back again.
    assert_eq!(cluster.kill_primary_of(slot), new);
    assert_eq!(cluster.wait_for_takeover(slot), old);
    assert_eq!(get(&cluster.nodes[old], "a").as_deref(), Some("1"));
    cluster.restart_empty();
    assert_eq!(get(cluster.node_of(slot), "a"), None);
}
