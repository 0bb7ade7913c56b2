//! More clients than there is room for: who gives way, who is refused, and for whom there is room yet.

use std::num::NonZeroU32;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::auth::Known;
use crate::limit::LimitClock;

type Client = http1::SendRequest<Full<Bytes>>;

impl Running {
    async fn connect(&self) -> Client {
        client1(self.raw(b"http/1.1").await).await.unwrap()
    }

    /// A connection from this address, through a proxy of ours.
    async fn connect_from(&self, address: &str) -> Result<Client, Box<dyn std::error::Error>> {
        let family = if address.contains(':') { "TCP6" } else { "TCP4" };
        let mut stream = self.tcp().await;
        stream.write_all(format!("PROXY {family} {address} {address} 4711 443\r\n").as_bytes()).await?;
        Ok(client1(handshake(stream, self.authority.client(&[b"http/1.1"])).await?).await?)
    }

    async fn waiting(&self, mut client: Client) -> JoinHandle<u16> {
        let request = client.send_request(request("/wait"));
        let answer = tokio::spawn(async move { request.await.map_or(0, |answer| answer.status().as_u16()) });
        self.mirror.arrived.acquire().await.unwrap().forget();
        answer
    }
}

async fn status(client: &mut Client, path: &str) -> u16 {
    client.ready().await.unwrap();
    let answer = client.send_request(request(path)).await.unwrap();
    let status = answer.status().as_u16();
    text(answer).await;
    status
}

#[tokio::test]
async fn for_one_more_the_quietest_stranger_gives_way_and_nobody_known_or_busy() {
    let server = start(|settings| settings.connections = 4).await;
    let mut known = server.connect().await;
    assert_eq!(status(&mut known, "/known").await, 200);
    let answer = server.waiting(server.connect().await).await;
    let mut first = server.raw(b"http/1.1").await;
    let mut second = server.connect().await;
    assert_eq!(status(&mut second, "/").await, 200);

    let mut third = server.connect().await;
    assert_eq!(status(&mut third, "/known").await, 200);
    assert!(until_closed(&mut first).await.is_empty());
    server.sees("countersign_connections_evicted_total{reason=\"quiet\"} 1").await;
    let mut fourth = server.connect().await;
    assert_eq!(status(&mut fourth, "/known").await, 200);
    eventually("the next quietest is gone", || second.is_closed()).await;

    // Those that are left are known or busy.
    assert!(server.get().await.is_err());
    server.sees("countersign_connections_refused_total{reason=\"all\"} 1").await;
    server.mirror.allowed.add_permits(1);
    assert_eq!(answer.await.unwrap(), 200);
    for mut kept in [known, third, fourth] {
        assert_eq!(status(&mut kept, "/").await, 200);
    }
}

#[tokio::test]
async fn whose_credential_has_gone_gives_way_as_a_stranger_does() {
    let server = start(|settings| settings.connections = 2).await;
    let (mut gone, mut certain) = (server.connect().await, server.connect().await);
    assert_eq!(status(&mut gone, "/known").await, 200);
    assert_eq!(status(&mut certain, "/known").await, 200);
    server.entrance.forget_strangers(&Known::of([KNOWN].iter()));
    assert!(server.get().await.is_err(), "it is known still");
    server.entrance.forget_strangers(&Known::of(std::iter::empty()));
    // Who shows it again, where it is known again, is known.
    assert_eq!(status(&mut certain, "/known").await, 200);
    let mut newcomer = server.connect().await;
    assert_eq!(status(&mut newcomer, "/").await, 200);
    eventually("it has given way", || gone.is_closed()).await;
    assert_eq!(status(&mut certain, "/").await, 200);
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_room_for_networks_of_redeemers() {
    let redeemers = vec!["192.0.2.0/24".parse().unwrap()];
    let server = start_with(redeemers, Arrivals::new(&limit::Settings::default()), |settings| {
        settings.proxy.networks = vec!["127.0.0.0/8".parse().unwrap()];
        (settings.connections, settings.connections_reserved) = (4, 2);
    })
    .await;
    let mut busy = Vec::new();
    for n in 1..=2 {
        busy.push(server.waiting(server.connect_from(&format!("203.0.113.{n}")).await.unwrap()).await);
    }
    assert!(server.connect_from("203.0.113.3").await.is_err());
    server.sees("countersign_connections_refused_total{reason=\"all\"} 1").await;
    let mut redeemer = server.connect_from("192.0.2.7").await.unwrap();
    let mut another = server.connect_from("192.0.2.8").await.unwrap();
    assert_eq!(status(&mut redeemer, "/").await, 200);
    assert_eq!(status(&mut another, "/").await, 200);
    server.mirror.allowed.add_permits(2);
    for answer in busy {
        assert_eq!(answer.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn who_connects_too_often_is_turned_away_and_others_are_not() {
    let (clock, hand) = LimitClock::manual();
    let limits = limit::Settings {
        address_connections_per_second: NonZeroU32::MIN,
        address_connection_burst: NonZeroU32::new(3).unwrap(),
        ..limit::Settings::default()
    };
    let server = start_with(Vec::new(), Arrivals::with_clock(&limits, &clock), |settings| {
        settings.proxy.networks = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let admitted = async |address: &dyn Fn(u16) -> String| {
        let mut admitted = 0;
        while server.connect_from(&address(admitted)).await.is_ok() {
            admitted += 1;
        }
        admitted
    };
    assert_eq!(admitted(&|_| "192.0.2.1".to_owned()).await, 3);
    server.sees("countersign_connections_refused_total{reason=\"rate\"} 1").await;
    assert_eq!(admitted(&|n| format!("198.51.100.{n}")).await, 6, "an IPv4 /24");
    assert_eq!(admitted(&|n| format!("2001:db8::{n:x}")).await, 3, "an IPv6 /64");
    assert_eq!(admitted(&|n| format!("2001:db8:1:{n:x}::1")).await, 6, "an IPv6 /56");
    assert_eq!(admitted(&|n| format!("2001:db8:2:{n:x}00::1")).await, 12, "an IPv6 /48");
    assert!(server.connect_from("203.0.113.1").await.is_ok());
    assert!(server.connect_from("192.0.2.1").await.is_err());
    hand.advance(Duration::from_secs(1));
    assert!(server.connect_from("192.0.2.1").await.is_ok());
}

#[tokio::test]
async fn the_address_of_a_direct_connection_is_charged_too() {
    let (clock, _hand) = LimitClock::manual();
    let limits = limit::Settings {
        address_connection_burst: NonZeroU32::new(2).unwrap(),
        ..limit::Settings::default()
    };
    let server = start_with(Vec::new(), Arrivals::with_clock(&limits, &clock), |_| {}).await;
    // Who never speaks TLS is charged as well.
    let _silent = (server.tcp().await, server.tcp().await);
    server.sees("countersign_connections_open 2").await;
    assert!(server.get().await.is_err());
    server.sees("countersign_connections_refused_total{reason=\"rate\"} 1").await;
}

#[tokio::test]
async fn a_network_of_many_addresses_cannot_hold_every_place() {
    let server = start(|settings| {
        settings.proxy.networks = vec!["127.0.0.0/8".parse().unwrap()];
        settings.connections_per_address = 1;
    })
    .await;
    let mut held = Vec::new();
    for n in 0..4 {
        held.push(server.connect_from(&format!("2001:db8:1:{n}00::1")).await.unwrap());
    }
    assert!(server.connect_from("2001:db8:1:400::1").await.is_err());
    server.sees("countersign_connections_refused_total{reason=\"network\"} 1").await;
    assert!(server.connect_from("2001:db8:2::1").await.is_ok());
}
