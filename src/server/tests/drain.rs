//! Leaving: in which order, and by when.

use super::*;

#[tokio::test]
async fn it_accepts_until_work_has_settled_then_finishes_answers_then_ends() {
    let server = start(|_| {}).await;
    let work = server.drain.admit().unwrap();
    let mut one = client1(server.raw(b"http/1.1").await).await.unwrap();
    let mut two = client2(server.raw(b"h2").await).await.unwrap();
    assert!(one.send_request(request("/")).await.is_ok());

    server.drain.begin();
    assert!(server.get().await.is_ok(), "still accepting: a redeem may come for the complete under way");
    one.ready().await.unwrap();
    let slow_one = tokio::spawn(one.send_request(request("/wait")));
    let slow_two = tokio::spawn(two.send_request(request("/wait")));
    server.mirror.arrived.acquire_many(2).await.unwrap().forget();

    drop(work);
    let address = server.address;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "still accepting");
    }
    assert!(!server.done.is_finished(), "two answers are still due");
    server.mirror.allowed.add_permits(2);
    assert_eq!(text(slow_one.await.unwrap().unwrap()).await.split(':').next(), Some("127.0.0.1"));
    assert_eq!(text(slow_two.await.unwrap().unwrap()).await.split(':').next(), Some("127.0.0.1"));
    tokio::time::timeout(PATIENCE, server.done).await.unwrap().unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let server = start(|_| {}).await;
    let mut one = client1(server.raw(b"http/1.1").await).await.unwrap();
    let mut two = client2(server.raw(b"h2").await).await.unwrap();
    assert!(one.send_request(request("/")).await.is_ok());
    assert!(two.send_request(request("/")).await.is_ok());
    server.drain.begin();
    tokio::time::timeout(PATIENCE, server.done).await.unwrap().unwrap();
    assert!(
        server.drain.deadline().unwrap().remaining() > Duration::from_secs(1),
        "well before the deadline"
    );
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left() {
    let server = start(|settings| settings.drain_timeout = Duration::from_millis(300)).await;
    let _never_done = server.drain.admit().unwrap();
    let mut stuck = client1(server.raw(b"http/1.1").await).await.unwrap();
    let answer = tokio::spawn(stuck.send_request(request("/wait")));
    server.mirror.arrived.acquire().await.unwrap().forget();
    let _silent = server.tcp().await;
    server.drain.begin();
    tokio::time::timeout(PATIENCE, server.done).await.unwrap().unwrap();
    assert!(answer.await.unwrap().is_err());
    assert!(server.drain.deadline().unwrap().has_passed());
    assert!(server.metrics.encode().contains("countersign_connections_open 0"));
}
