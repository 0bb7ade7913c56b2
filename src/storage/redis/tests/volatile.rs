//! Which servers may hold keys that are to vanish, and what they need.

use std::time::Duration;

use super::redis_server::Replicated;
use super::*;
use crate::domain::secret::SecretBytes;

fn server_at(server: &Server) -> VolatileServer {
    VolatileServer::at(address(&server.url()), &settings(&[]))
}

async fn said(server: &mut VolatileServer) -> Result<(), String> {
    server.meet().await.map_err(|error| error.to_string())?;
    server.examine().await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_that_keeps_or_copies_or_evicts_is_refused_with_what_to_do() {
    let server = Server::start(options());
    let mut asked = server_at(&server);
    assert_eq!(said(&mut asked).await, Ok(()));
    for (name, wrong, right, words) in [
        ("appendonly", "yes", "no", "set `appendonly no`"),
        ("save", "3600 1", "", "set `save"),
        ("maxmemory-policy", "volatile-ttl", "noeviction", "volatile-ttl"),
    ] {
        server.command(&["CONFIG", "SET", name, wrong]);
        let told = said(&mut asked).await.unwrap_err();
        assert!(told.contains(words), "{told}");
        server.command(&["CONFIG", "SET", name, right]);
        assert_eq!(said(&mut asked).await, Ok(()));
    }
    let pair = Replicated::with(&options(), 1);
    let told = said(&mut server_at(pair.primary())).await.unwrap_err();
    assert!(told.contains("1 replica(s)"), "{told}");
    let replica = pair.replicas().next().unwrap();
    let told = said(&mut server_at(&pair.nodes[replica])).await.unwrap_err();
    assert!(told.contains("it is a replica"), "{told}");
    let cluster = Cluster::start(&options());
    let told = said(&mut server_at(&cluster.nodes[0])).await.unwrap_err();
    assert!(told.contains("node of a Cluster"), "{told}");
}

#[tokio::test]
async fn values_are_put_once_deleted_as_they_were_and_gone_with_their_process() {
    let mut server = Server::start(options());
    let mut asked = server_at(&server);
    let first = asked.meet().await.unwrap();
    let life = Some(Duration::from_secs(3600));
    assert!(asked.put_new("a", b"one", life).await.unwrap());
    assert!(!asked.put_new("a", b"two", life).await.unwrap(), "the first one stays");
    let names = ["a".to_owned(), "b".to_owned()];
    assert_eq!(asked.values(&names).await.unwrap(), [Some(b"one".to_vec()), None]);
    let left = server.command(&["PTTL", "a"]).integer().unwrap();
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    asked.delete("a", b"two").await.unwrap();
    assert_eq!(asked.values(&names).await.unwrap(), [Some(b"one".to_vec()), None]);
    asked.delete("a", b"one").await.unwrap();
    assert_eq!(asked.values(&names).await.unwrap(), [None, None]);
    assert!(!asked.meet().await.unwrap().is_new);
    server.kill();
    assert!(asked.meet().await.is_err() && asked.values(&names).await.is_err());
    server.restart_empty();
    let second = asked.meet().await.unwrap();
    assert!(second.is_new && second.run_id != first.run_id);
}

#[tokio::test]
async fn an_acl_user_over_tls_is_all_that_keys_need() {
    let directory = tempfile::tempdir().unwrap();
    let tls = self_signed(directory.path());
    let certificate = tls.certificate.clone();
    // As deploy/redis.md has it.
    let user = "gateway on >secret-of-redis ~countersign:epoch:* \
                +mget +set +eval +get +del +ping +info +client +config|get";
    let server = Server::start(Options { tls: Some(tls), users: vec![user.into()], ..options() });
    let settings = Settings {
        tls: true,
        ca: Some(std::fs::read(certificate).unwrap()),
        username: Some("gateway".into()),
        password: Some(Arc::new(SecretBytes::new(b"secret-of-redis".to_vec()))),
        ..settings(&[])
    };
    let node = NodeAddress { host: "localhost".into(), port: server.tls_port.unwrap() };
    let mut asked = VolatileServer::at(node, &settings);
    assert_eq!(said(&mut asked).await, Ok(()));
    let name = "countersign:epoch:1".to_owned();
    assert!(asked.put_new(&name, b"one", None).await.unwrap());
    assert_eq!(asked.values(std::slice::from_ref(&name)).await.unwrap(), [Some(b"one".to_vec())]);
    asked.delete(&name, b"one").await.unwrap();
    assert!(asked.put_new("another", b"one", None).await.is_err());
}
