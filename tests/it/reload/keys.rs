//! A key rotated by reloads over two replicas on one Redis.

use std::path::PathBuf;
use std::sync::Arc;

use countersign::app::{App, Source};
use countersign::config::Config;
use countersign::domain::clock::{Clock, ManualClock, SystemClock};
use serde_json::Value;

use super::*;
use crate::redis_server::{self, Server};

/// How long a key stands behind the current one.
const KNOWN_FOR: Duration = Duration::from_secs(60);

pub(super) struct Replica {
    pub app: App,
    file: PathBuf,
    operator: String,
}

impl Replica {
    /// A replica that reads a file of its own again when it is told to.
    pub async fn start(world: &World, name: &str) -> Self {
        let file = world.directory.path().join(format!("{name}.toml"));
        std::fs::write(&file, &world.text).unwrap();
        let again = file.clone();
        let source = Source { read: Arc::new(move || Config::load(&again)), file: None };
        let config = Config::load(&file).unwrap();
        let (clock, log) = (Arc::clone(&world.gateway_clock), world.log.clone());
        let app = App::start_logging_to(config, Some(source), clock, log).await.unwrap();
        Self { app, file, operator: world.operator.expose().to_owned() }
    }

    pub async fn ask(&self, request: &str) -> Told {
        ask_admin(self.app.admin_address(), Some(&self.operator), request, None).await
    }

    pub async fn reload_with(&self, text: &str) -> (u16, String) {
        std::fs::write(&self.file, text).unwrap();
        let told = self.ask("POST /config/reload").await;
        let words = told.body["message"].as_str().or(told.body["outcome"].as_str()).unwrap().to_owned();
        (told.status, words)
    }

    /// Waits until so many replicas are known to live.
    pub async fn until_live(&self, count: usize) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let told = self.ask("GET /store/replicas").await;
            if told.body["replicas"].as_array().is_some_and(|replicas| replicas.len() == count) {
                return told.body;
            }
            assert!(Instant::now() < until, "{:?}", told.body);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// The lines of a store that several replicas share.
pub(super) fn shared_store(server: &Server) -> String {
    format!(
        "engine = \"redis\"\nnodes = [\"{}\"]\nepoch_directory = \"epochs\"\naccept_loss = true\n\
         server_clock = false",
        server.url()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_becomes_current_once_every_replica_has_had_it_for_a_minute() {
    let server = Server::start(redis_server::Options::default());
    let store = shared_store(&server);
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let told: Arc<dyn Clock> = clock.clone();
    let options = Options { store: Some(store), clock: Some(told), ..Options::default() };
    let mut world = World::closed(options).await;
    let first = Replica::start(&world, "first").await;
    let second = Replica::start(&world, "second").await;
    world.meet(first.app.public_address());
    std::fs::write(world.directory.path().join("new.key"), "ab".repeat(32)).unwrap();
    let old = "[[keys.sealing]]\nid = \"sealing-1\"\nsecret = \"file:sealing.key\"\n";
    assert!(world.text.contains(old));
    let new = "[[keys.sealing]]\nid = \"sealing-2\"\nsecret = \"file:new.key\"\n";
    let behind = world.text.replace(old, &format!("{old}{new}current = false\n"));
    let current = world.text.replace(old, &format!("{new}{old}"));

    // Nobody has it, then one of them.
    let known = first.until_live(2).await;
    let (status, said) = first.reload_with(&current).await;
    assert_eq!(status, 409, "{said}");
    assert!(said.contains("\"sealing-2\" is to stand behind the current key for 60 s first"), "{said}");
    assert_eq!(first.reload_with(&behind).await, (200, "applied".to_owned()));
    clock.advance(KNOWN_FOR);
    first.until_live(2).await;
    let (status, said) = first.reload_with(&current).await;
    let others: Vec<&str> =
        known["replicas"].as_array().unwrap().iter().map(|replica| replica["id"].as_str().unwrap()).collect();
    assert!(status == 409 && said.contains("does not have it in its rings"), "{said}");
    assert_eq!(others.iter().filter(|id| said.contains(**id)).count(), 1, "who lacks it: {said}");

    // Both, but one of them not for long enough.
    assert_eq!(second.reload_with(&behind).await, (200, "applied".to_owned()));
    clock.advance(KNOWN_FOR / 2);
    first.until_live(2).await;
    let (status, said) = first.reload_with(&current).await;
    assert!(status == 409 && said.contains("has not had it in its rings for 60 s"), "{said}");
    clock.advance(KNOWN_FOR / 2);
    first.until_live(2).await;
    assert_eq!(first.reload_with(&current).await, (200, "applied".to_owned()));

    // What one seals the other opens, whichever is asked to, and whoever has which key as its current one.
    let agent = |replica: &Replica| {
        let address = replica.app.public_address();
        world.agent(0, |settings| {
            settings.address = address;
            settings.clock = clock.clone();
        })
    };
    let (one, other) = (agent(&first), agent(&second));
    for (minting, buying) in [(&one, &other), (&other, &one)] {
        let (session, total) = create(minting, "lamps").await;
        let token = mint(minting, "lamps", &session, GOOD_CARD, total).await;
        for shop in [&world.lamps, &world.books] {
            let redeemed_at = if std::ptr::eq(minting, &one) { &second } else { &first };
            shop.connect(redeemed_at.app.public_address(), GATEWAY).unwrap();
        }
        let answer = complete(buying, "lamps", &session, &token).await;
        assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
    }
    assert_eq!(second.reload_with(&current).await, (200, "applied".to_owned()));
    // One that starts without it is refused: the store depends on it.
    std::fs::write(&first.file, &world.text).unwrap();
    let (status, said) = first.reload_with(&world.text).await;
    assert!(status == 409 && said.contains("depends on sealing key \"sealing-2\""), "{said}");
    first.app.shutdown().await;
    second.app.shutdown().await;
}
