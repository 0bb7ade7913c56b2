//! Clients that ask and do not read.
//!
//! What waits for them has a bound and an end, whatever else they do meanwhile, and costs nobody who
//! reads anything.

use std::time::Instant;

use super::*;

const MIB: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_millis(600);

type Client = http2::SendRequest<Full<Bytes>>;

impl Running {
    /// A client whose windows are so small that an answer it does not read stays with the server.
    async fn narrow(&self) -> Client {
        let stream = TokioIo::new(self.raw(b"h2").await);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(u32::from(u16::MAX));
        let (client, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// Asks for an answer of a mebibyte, and has its head.
async fn large(client: &mut Client) -> hyper::Result<Response<Incoming>> {
    client.ready().await?;
    client.send_request(request("/large")).await
}

async fn read(answer: Response<Incoming>) -> hyper::Result<usize> {
    Ok(answer.into_body().collect().await?.to_bytes().len())
}

fn evicted(server: &Running) -> u64 {
    let text = server.metrics.encode();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("countersign_connections_evicted_total{reason=\"unread\"} "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_connection_whatever_is_asked_meanwhile() {
    let server = start(|settings| settings.answer_timeout = TIMEOUT).await;
    let mut client = server.narrow().await;
    let begun = Instant::now();
    let unread = large(&mut client).await.unwrap();
    let mut asked = 0;
    // Each of these used to give the connection its whole idle time again.
    while client.ready().await.is_ok() {
        let Ok(answer) = client.send_request(request("/")).await else { break };
        if read(answer).await.is_err() {
            break;
        }
        asked += 1;
        assert!(begun.elapsed() < PATIENCE, "it was kept through {asked} requests");
        tokio::time::sleep(TIMEOUT / 20).await;
    }
    assert!(asked > 0 && begun.elapsed() >= TIMEOUT);
    assert!(read(unread).await.is_err());
    server.sees("countersign_connections_open 0").await;
    assert_eq!(evicted(&server), 1);
}

#[tokio::test]
async fn an_answer_on_http_1_that_is_not_taken_ends_its_connection_too() {
    let server = start(|settings| settings.answer_timeout = TIMEOUT).await;
    let mut client = client1(server.raw(b"http/1.1").await).await.unwrap();
    let unread = client.send_request(request("/huge")).await.unwrap();
    server.sees("countersign_connections_open 0").await;
    assert_eq!(evicted(&server), 1);
    assert!(unread.into_body().collect().await.is_err());
}

#[tokio::test]
async fn who_reads_slowly_but_in_time_gets_all_of_it() {
    let server = start(|settings| settings.idle_timeout = TIMEOUT).await;
    let mut client = server.narrow().await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(large(&mut client).await.unwrap());
    }
    // Longer than a connection may be idle: with answers on their way it is not.
    tokio::time::sleep(2 * TIMEOUT).await;
    for answer in answers {
        assert_eq!(read(answer).await.unwrap(), MIB);
    }
    assert_eq!(evicted(&server), 0);
    server.sees("countersign_connections_open 0").await;
}

#[tokio::test]
async fn a_connection_may_leave_so_much_unread_and_others_are_not_hurt() {
    let server = start(|settings| settings.unread_bytes_per_connection = 3 * MIB).await;
    let (mut greedy, mut other) = (server.narrow().await, server.narrow().await);
    let others = large(&mut other).await.unwrap();
    let mut unread = Vec::new();
    while let Ok(answer) = large(&mut greedy).await {
        unread.push(answer);
        assert!(unread.len() <= 4, "nothing stops it");
    }
    assert!(unread.len() >= 3);
    eventually("it is closed", || greedy.is_closed()).await;
    assert_eq!(evicted(&server), 1);
    assert_eq!(read(others).await.unwrap(), MIB);
    server.sees("countersign_connections_open 1").await;
}

#[tokio::test]
async fn all_together_may_leave_so_much_unread_and_who_leaves_the_most_goes() {
    let server = start(|settings| settings.unread_bytes = 4 * MIB).await;
    let (mut greedy, mut modest) = (server.narrow().await, server.narrow().await);
    let modests = large(&mut modest).await.unwrap();
    let mut unread = Vec::new();
    for _ in 0..3 {
        unread.push(large(&mut greedy).await.unwrap());
    }
    assert_eq!(evicted(&server), 0);
    let mut third = server.narrow().await;
    let thirds = large(&mut third).await.unwrap();
    eventually("the greedy one is closed", || greedy.is_closed()).await;
    assert_eq!(evicted(&server), 1);
    assert_eq!((read(modests).await.unwrap(), read(thirds).await.unwrap()), (MIB, MIB));
}

/// As much as six clients can pin, counted where it is pinned.
#[tokio::test]
async fn six_clients_that_never_read_pin_no_more_than_their_bounds() {
    let server = start(|_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = server.narrow().await;
        clients.push(tokio::spawn(async move {
            let mut unread = Vec::new();
            while let Ok(answer) = large(&mut client).await {
                unread.push(answer);
                assert!(unread.len() <= 128);
            }
            unread.len()
        }));
    }
    for client in clients {
        let pinned = client.await.unwrap();
        assert!((15..=17).contains(&pinned), "{pinned} MiB");
    }
    server.sees("countersign_connections_open 0").await;
}
