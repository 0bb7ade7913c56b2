//! What a slow, oversized or hostile client gets, and that it costs nobody else anything.

use tokio::io::AsyncWriteExt;

use super::*;

const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_slow_head_is_dropped_while_others_are_served() {
    let server = start(|settings| settings.header_timeout = SHORT).await;
    let mut slow = server.raw(b"http/1.1").await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    assert!(server.get().await.is_ok());
    assert!(until_closed(&mut slow).await.is_empty());
    assert!(server.get().await.is_ok());
}

#[tokio::test]
async fn a_slow_head_on_a_kept_connection_is_dropped_long_before_idleness() {
    let server = start(|settings| settings.header_timeout = SHORT).await;
    let mut slow = server.raw(b"http/1.1").await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // One byte now and then does not extend the time.
    let (mut read, mut write) = tokio::io::split(slow);
    let dripping = tokio::spawn(async move {
        while write.write_all(b"G").await.is_ok() && write.flush().await.is_ok() {
            tokio::time::sleep(SHORT / 5).await;
        }
    });
    until_closed(&mut read).await;
    dripping.abort();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = start(|settings| settings.idle_timeout = SHORT).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        let stream = server.raw(alpn).await;
        // The clients are kept, so that it is not they who close.
        let (mut one, mut two) = (None, None);
        let answer = if alpn == b"h2" {
            let client = two.insert(client2(stream).await.unwrap());
            tokio::spawn(client.send_request(request("/wait")))
        } else {
            let client = one.insert(client1(stream).await.unwrap());
            tokio::spawn(client.send_request(request("/wait")))
        };
        server.mirror.arrived.acquire().await.unwrap().forget();
        // Busy for several times the idle time.
        tokio::time::sleep(3 * SHORT).await;
        server.mirror.allowed.add_permits(1);
        assert!(answer.await.unwrap().is_ok());
        server.sees("countersign_connections_open 0").await;
        eventually("the client hears of it", || {
            one.as_ref().is_none_or(|client| client.is_closed())
                && two.as_ref().is_none_or(|client| client.is_closed())
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_whose_last_request_was_abandoned_is_idle() {
    let server = start(|settings| settings.idle_timeout = SHORT).await;
    let mut client = client2(server.raw(b"h2").await).await.unwrap();
    let answer = tokio::spawn(client.send_request(request("/wait")));
    server.mirror.arrived.acquire().await.unwrap().forget();
    tokio::time::sleep(3 * SHORT).await;
    answer.abort();
    server.sees("countersign_connections_open 0").await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_after_its_handshake_is_closed() {
    let server = start(|settings| settings.header_timeout = SHORT).await;
    for alpn in [&b"http/1.1"[..], b"h2"] {
        until_closed(&mut server.raw(alpn).await).await;
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let server = start(|settings| settings.handshake_timeout = SHORT).await;
    assert!(until_closed(&mut server.tcp().await).await.is_empty());
    server.sees("countersign_handshake_failures_total{reason=\"timeout\"} 1").await;
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let server = start(|settings| settings.header_bytes = 8 * 1024).await;
    let large = |path: &str| {
        let mut request = request(path);
        request.headers_mut().insert("x-large", "x".repeat(9 * 1024).parse().unwrap());
        request
    };
    let mut first = client1(server.raw(b"http/1.1").await).await.unwrap();
    assert_eq!(first.send_request(large("/")).await.unwrap().status(), 431);
    let mut second = client2(server.raw(b"h2").await).await.unwrap();
    assert_eq!(second.send_request(large("/")).await.unwrap().status(), 431);
    assert_eq!(second.send_request(request("/")).await.unwrap().status(), 200, "other streams go on");
}

#[tokio::test]
async fn a_head_of_too_many_fields_is_refused() {
    for count in [20, 120] {
        let server = start(|settings| settings.header_count = count).await;
        let many = |more: usize| {
            let mut request = request("/");
            for index in 0..count + more - request.headers().len() {
                let name = http::HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap();
                request.headers_mut().insert(name, "1".parse().unwrap());
            }
            request
        };
        let mut second = client2(server.raw(b"h2").await).await.unwrap();
        assert_eq!(second.send_request(many(1)).await.unwrap().status(), 431);
        assert_eq!(second.send_request(many(0)).await.unwrap().status(), 200);
        let mut first = client1(server.raw(b"http/1.1").await).await.unwrap();
        assert_eq!(first.send_request(many(0)).await.unwrap().status(), 200);
        first.ready().await.unwrap();
        assert_eq!(first.send_request(many(1)).await.unwrap().status(), 431);
    }
}

#[tokio::test]
async fn connections_above_the_cap_are_closed_until_one_leaves() {
    for per_address in [false, true] {
        let server = start(|settings| {
            if per_address {
                settings.connections_per_address = 1;
            } else {
                settings.connections = 1;
            }
        })
        .await;
        let mut held = client1(server.raw(b"http/1.1").await).await.unwrap();
        let known = text(held.send_request(request("/known")).await.unwrap()).await;
        assert!(known.starts_with("127.0.0.1:"));
        assert!(server.get().await.is_err());
        let reason = if per_address { "address" } else { "all" };
        server.sees(&format!("countersign_connections_refused_total{{reason=\"{reason}\"}} 1")).await;
        drop(held);
        server.sees("countersign_connections_open 0").await;
        assert!(server.get().await.is_ok());
    }
}

#[tokio::test]
async fn a_flood_of_resets_closes_that_connection_only() {
    let server = start(|_| {}).await;
    let mut other = client2(server.raw(b"h2").await).await.unwrap();
    assert_eq!(other.send_request(request("/")).await.unwrap().status(), 200);

    let hostile = server.raw(b"h2").await;
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1_u32..2_000).step_by(2) {
        // HEADERS (end of stream and of headers) of GET https://localhost/, then RST_STREAM.
        let head = b"\x82\x87\x84\x41\x09localhost";
        flood.extend([0, 0, u8::try_from(head.len()).unwrap(), 1, 0x05]);
        flood.extend(stream.to_be_bytes());
        flood.extend(head);
        flood.extend([0, 0, 4, 3, 0]);
        flood.extend(stream.to_be_bytes());
        flood.extend(8_u32.to_be_bytes());
    }
    let (mut read, mut write) = tokio::io::split(hostile);
    let flooding = tokio::spawn(async move {
        let _ = write.write_all(&flood).await;
        write
    });
    let answer = until_closed(&mut read).await;
    let _ = flooding.await;
    // GOAWAY is frame type 7; its error code 11 is ENHANCE_YOUR_CALM.
    assert!(answer.windows(4).any(|bytes| bytes == [0, 0, 0, 11]), "{answer:?}");
    assert_eq!(other.send_request(request("/")).await.unwrap().status(), 200);
}
