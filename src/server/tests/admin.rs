//! What operators and probes are told.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::server::admin::Admin;

struct Told {
    client: http1::SendRequest<Full<Bytes>>,
}

impl Told {
    async fn get(&mut self, method: &str, path: &str) -> (u16, String) {
        self.client.ready().await.unwrap();
        let request = Request::builder().method(method).uri(path).body(Full::default()).unwrap();
        let response = self.client.send_request(request).await.unwrap();
        (response.status().as_u16(), text(response).await)
    }

    /// The metrics for who takes this, and what they are said to be.
    async fn metrics_as(&mut self, accept: &str) -> (String, String) {
        self.client.ready().await.unwrap();
        let request = Request::get("/metrics").header("accept", accept).body(Full::default()).unwrap();
        let response = self.client.send_request(request).await.unwrap();
        let format = response.headers()["content-type"].to_str().unwrap().to_owned();
        (format, text(response).await)
    }
}

#[tokio::test]
async fn probes_and_scrapers_are_answered_also_while_draining() {
    let metrics = Arc::new(Metrics::new().unwrap());
    let drain = Drain::new(PATIENCE);
    let healthy = Arc::new(AtomicBool::new(true));
    let readiness = {
        let healthy = Arc::clone(&healthy);
        Arc::new(move || {
            healthy.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "the store is unavailable".to_owned())
        })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let admin = Admin::new(Arc::clone(&metrics), drain.clone(), readiness);
    let probes = admin.for_probes_alone();
    let apart = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let apart_address = apart.local_addr().unwrap();
    tokio::spawn(probes.run(apart, std::future::pending()));
    let mut apart = Told { client: client1(TcpStream::connect(apart_address).await.unwrap()).await.unwrap() };
    let done = tokio::spawn(admin.run(listener, async { ended.await.unwrap() }));
    let client = client1(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut told = Told { client };

    assert_eq!(told.get("GET", "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(told.get("GET", "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(told.get("GET", "/").await.0, 404);
    assert_eq!(apart.get("GET", "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(apart.get("GET", "/metrics").await.0, 404, "probes alone");
    assert_eq!(apart.get("POST", "/metrics").await.0, 404);
    assert_eq!(told.get("POST", "/readyz").await.0, 405);
    assert_eq!(told.get("HEAD", "/metrics").await, (200, String::new()));
    metrics.overcharge();
    assert!(told.get("GET", "/metrics").await.1.contains("\ncountersign_overcharges_total 1\n"));
    let asked = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let (format, samples) = told.metrics_as(asked).await;
    assert_eq!(format, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(samples.contains("\n# TYPE countersign_overcharges counter\n"), "{samples}");
    assert!(
        samples.contains("\ncountersign_overcharges_total 1\n") && samples.ends_with("\n# EOF\n"),
        "{samples}"
    );
    assert_eq!(told.metrics_as("*/*").await.0, "text/plain; version=0.0.4; charset=utf-8");

    healthy.store(false, Ordering::SeqCst);
    assert_eq!(told.get("GET", "/readyz").await, (503, "not ready: the store is unavailable\n".to_owned()));
    healthy.store(true, Ordering::SeqCst);
    drain.begin();
    assert_eq!(told.get("GET", "/readyz").await, (503, "not ready: draining\n".to_owned()));
    assert_eq!(apart.get("GET", "/readyz").await, (503, "not ready: draining\n".to_owned()));
    assert_eq!(told.get("GET", "/livez").await.0, 200);

    end.send(()).unwrap();
    tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn other_paths_go_to_the_operators_api_when_there_is_one() {
    let mirror = Arc::new(Mirror { arrived: Semaphore::new(0), allowed: Semaphore::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(Arc::new(Metrics::new().unwrap()), Drain::new(PATIENCE), Arc::new(|| Ok(())));
    tokio::spawn(admin.with_operator(mirror).run(listener, std::future::pending()));
    let client = client1(TcpStream::connect(address).await.unwrap()).await.unwrap();
    let mut told = Told { client };
    assert!(told.get("GET", "/claims").await.1.starts_with("127.0.0.1:"));
    assert_eq!(told.get("GET", "/livez").await.1, "ok\n");
}

#[tokio::test]
async fn silent_connections_keep_nobody_from_the_probes_and_end_no_answer_under_way() {
    let mirror = Arc::new(Mirror { arrived: Semaphore::new(0), allowed: Semaphore::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin::new(Arc::new(Metrics::new().unwrap()), Drain::new(PATIENCE), Arc::new(|| Ok(())));
    tokio::spawn(admin.with_operator(mirror.clone()).run(listener, std::future::pending()));
    let connect = || async { client1(TcpStream::connect(address).await.unwrap()).await.unwrap() };

    let mut busy = connect().await;
    let waiting = tokio::spawn(busy.send_request(request("/wait")));
    tokio::time::timeout(PATIENCE, mirror.arrived.acquire()).await.unwrap().unwrap().forget();
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut told = Told { client: connect().await };
    assert_eq!(told.get("GET", "/livez").await, (200, "ok\n".to_owned()));
    let oldest = silent.first_mut().unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, until_closed(oldest)).await.unwrap(), b"", "gives way");

    mirror.allowed.add_permits(1);
    let answered = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answered.status(), 200);
}
