//! Which servers are refused, and how they are reached.

use super::*;

async fn refusal(options: Options, change: impl FnOnce(&mut Settings)) -> String {
    let server = Server::start(options);
    let mut settings = settings(&[server.url()]);
    change(&mut settings);
    let clock = kept(Arc::new(SystemClock));
    match RedisStore::open(settings, clock, Arc::new(|_| {})).await {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_server_that_may_forget_is_refused_with_what_to_do() {
    let evicting = Options { memory: Some(("64mb".into(), "allkeys-lru".into())), ..options() };
    let told = refusal(evicting, |_| {}).await;
    assert!(told.contains("allkeys-lru") && told.contains("maxmemory-policy noeviction"), "{told}");
    let told = refusal(options(), |settings| settings.accept_loss = false).await;
    assert!(told.contains("appendonly yes") && told.contains("store.accept_loss = true"), "{told}");
    let keeping = Options { persistence: Persistence::EverySecond, ..options() };
    assert_eq!(refusal(keeping, |settings| settings.accept_loss = false).await, "opened");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_lets_nobody_in_is_named() {
    let (gone, url) = {
        let server = Server::start(options());
        (server.port, server.url())
    };
    let clock = kept(Arc::new(SystemClock));
    let opened = RedisStore::open(settings(&[url]), clock, Arc::new(|_| {})).await;
    assert!(opened.err().unwrap().to_string().contains(&gone.to_string()));
    let closed = Options { password: Some("secret-of-redis".into()), ..options() };
    let told = refusal(closed.clone(), |_| {}).await;
    assert!(told.contains("NOAUTH"), "{told}");
    let wrong = Some(Arc::new(crate::domain::secret::SecretBytes::new(b"wrong-password".to_vec())));
    let told = refusal(closed, |settings| settings.password = wrong).await;
    assert!(!told.contains("wrong-password") && !told.contains("secret-of-redis"), "{told}");
}

#[tokio::test]
async fn an_acl_user_over_tls_is_all_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    let tls = self_signed(directory.path());
    let certificate = tls.certificate.clone();
    let user = "gateway on >secret-of-redis ~cs:* +@read +@write +@scripting +info +ping +time +wait +config|get \
                +client +cluster|slots";
    let server = Server::start(Options { tls: Some(tls), users: vec![user.into()], ..options() });
    let settings = Settings {
        nodes: vec![NodeAddress { host: "localhost".into(), port: server.tls_port.unwrap() }],
        tls: true,
        ca: Some(std::fs::read(certificate).unwrap()),
        username: Some("gateway".into()),
        password: Some(Arc::new(crate::domain::secret::SecretBytes::new(b"secret-of-redis".to_vec()))),
        ..settings(&[])
    };
    let store: Arc<dyn RecordStore> = Arc::new(open(settings, &Notices::default()).await);
    contract::write(&store, vec![contract::put(&contract::token("a"), "1")]).await;
    assert_eq!(contract::read(&store, &contract::token("a")).await.unwrap().bytes, "1".into());
    assert_eq!(store.scan(Kind::Token, None, 10).await.unwrap().len(), 1);
}
