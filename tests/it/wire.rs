//! Requests as bytes over TLS: what no HTTP library would send, sent, and read as it comes back.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use countersign::quickstart::agent::Prepared;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{GATEWAY, World};

/// Longer than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to the gateway.
pub type Socket = TlsStream<TcpStream>;

/// Connects and settles on `h2` or `http/1.1`.
pub async fn connect(world: &World, protocol: &[u8]) -> Socket {
    connect_from(world, protocol, Ipv4Addr::LOCALHOST).await
}

/// Connects from an address of this machine's: another client, to the gateway.
pub async fn connect_from(world: &World, protocol: &[u8], from: Ipv4Addr) -> Socket {
    let mut tls = world.certificates.client().unwrap();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    // Small, so that what is not read soon fills it.
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let stream = socket.connect(world.alpha().settings().address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(GATEWAY).unwrap();
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

/// An HTTP/1.1 request, every byte of it open.
#[derive(Clone)]
pub struct Raw {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub version: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Raw {
    /// What an HTTP library would send.
    pub fn of(prepared: &Prepared) -> Self {
        let mut raw = Self {
            method: prepared.method.as_str().into(),
            target: prepared.path.as_bytes().to_vec(),
            version: b"HTTP/1.1".to_vec(),
            headers: vec![(b"host".to_vec(), prepared.authority.as_bytes().to_vec())],
            body: prepared.body.to_vec(),
        };
        for (name, value) in &prepared.headers {
            raw = raw.add(name.as_str(), value.as_bytes());
        }
        if raw.body.is_empty() { raw } else { raw.sized() }
    }

    /// With one more header line.
    pub fn add(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
        self
    }

    /// With exactly this value of a header.
    pub fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).add(name, value)
    }

    /// With its first line of a header once more.
    pub fn twice(self, name: &str) -> Self {
        let value = self.header(name);
        self.add(name, value)
    }

    /// A header's first line.
    pub fn header(&self, name: &str) -> Vec<u8> {
        let mut lines = self.headers.iter();
        let line = lines.find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        line.unwrap_or_else(|| panic!("no {name}")).1.clone()
    }

    /// A header's first line, as text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.header(name)).unwrap()
    }

    /// With this target.
    pub fn target(mut self, target: impl AsRef<[u8]>) -> Self {
        self.target = target.as_ref().to_vec();
        self
    }

    /// With this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// With this body as it stands, whatever the head says of it.
    pub fn framed(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    fn sized(self) -> Self {
        let length = self.body.len().to_string();
        self.set("content-length", length)
    }

    /// Request line and headers, up to and with the empty line.
    pub fn head(&self) -> Vec<u8> {
        let mut bytes = [&self.method[..], b" ", &self.target, b" ", &self.version, b"\r\n"].concat();
        for (name, value) in &self.headers {
            bytes.extend([&name[..], b": ", value, b"\r\n"].concat());
        }
        bytes.extend(b"\r\n");
        bytes
    }

    /// All of it.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }
}

/// An HTTP/1.1 answer.
#[derive(Debug, Default)]
pub struct Received {
    /// None when the connection ended without an answer.
    pub status: Option<u16>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes after the answer.
    pub more: Vec<u8>,
    /// Whether the connection ended, as announced.
    pub closed: bool,
}

impl Received {
    /// The only line of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter().filter(|(known, _)| known == name);
        let line = lines.next().map(|(_, value)| value.as_str());
        assert!(lines.next().is_none(), "two lines of {name}");
        line
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends bytes and reads one answer. Reads on to the connection's end if the answer announces it.
pub async fn exchange(world: &World, bytes: &[u8]) -> Received {
    let mut socket = connect(world, b"http/1.1").await;
    // A gateway that refuses early closes before everything is written.
    let _ = socket.write_all(bytes).await;
    let _ = socket.flush().await;
    receive(&mut socket).await
}

/// Reads one answer, and on to the connection's end if the answer announces it.
pub async fn receive(socket: &mut Socket) -> Received {
    tokio::time::timeout(PATIENCE, read(socket)).await.expect("neither an answer nor an end")
}

/// Reads to the connection's end.
pub async fn rest(socket: &mut Socket) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async { while more(socket, &mut bytes).await {} };
    tokio::time::timeout(PATIENCE, reading).await.expect("the connection lives on");
    bytes
}

async fn read(socket: &mut Socket) -> Received {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if !more(socket, &mut bytes).await {
            return Received { more: bytes, closed: true, ..Received::default() };
        }
    };
    let mut received = Received::default();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    received.status = lines.next().unwrap().split(' ').nth(1).map(|status| status.parse().unwrap());
    received.headers = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = received.header("content-length").map_or(0, |length| length.parse().unwrap());
    bytes.drain(..end + 4);
    while bytes.len() < length && more(socket, &mut bytes).await {}
    received.more = bytes.split_off(length.min(bytes.len()));
    received.body = bytes;
    // A client that is not told would send its next request into a connection that is ending.
    if received.header("connection") == Some("close") {
        while more(socket, &mut received.more).await {}
        received.closed = true;
    }
    received
}

/// Reads what there is; false at the end, however it comes.
async fn more(socket: &mut Socket, bytes: &mut Vec<u8>) -> bool {
    matches!(socket.read_buf(bytes).await, Ok(read) if read > 0)
}
