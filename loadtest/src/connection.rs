//! A client's connection, written by hand on HTTP/1.1 and through hyper on HTTP/2.
//!
//! HTTP/1.1 written and read by hand, because the load generator shares the machine with what it
//! measures, or HTTP/2 through hyper.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use clap::ValueEnum;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::request::Request;

/// Longest answer read, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Which version of HTTP agents speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// Where agents connect to, and how.
#[derive(Clone)]
pub struct Target {
    /// The address to dial.
    pub address: SocketAddr,
    /// The authority that requests name.
    pub authority: String,
    /// TLS; `None` speaks plain HTTP/1.1.
    pub tls: Option<Arc<ClientConfig>>,
    /// Which HTTP.
    pub http: Http,
    /// The address agents come from, where it matters.
    pub from: Option<IpAddr>,
}

/// A request in the form its connection sends.
#[derive(Clone)]
pub enum Wire {
    /// HTTP/1.1: the bytes.
    One(Bytes),
    /// HTTP/2: the request.
    Two(Box<http::Request<Full<Bytes>>>),
}

/// A whole answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Bytes,
}

/// An open connection.
pub enum Connection {
    /// HTTP/1.1.
    One(Box<Stream>),
    /// HTTP/2; clones share the connection.
    Two(SendRequest<Full<Bytes>>),
}

impl Target {
    /// Connects.
    ///
    /// # Errors
    /// When there is no connection, or TLS or HTTP/2 fail.
    pub async fn connect(&self) -> Result<Connection> {
        let socket = TcpSocket::new_v4()?;
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let tcp = socket.connect(self.address).await.context("no connection")?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Connection::One(Box::new(Stream::new(tcp))));
        };
        let mut tls = ClientConfig::clone(tls);
        let protocol: &[u8] = if self.http == Http::Two { b"h2" } else { b"http/1.1" };
        tls.alpn_protocols = vec![protocol.to_vec()];
        let host = self.authority.split(':').next().unwrap_or_default().to_owned();
        let stream = TlsConnector::from(Arc::new(tls)).connect(ServerName::try_from(host)?, tcp).await;
        let stream = stream.context("no TLS")?;
        if self.http == Http::One {
            return Ok(Connection::One(Box::new(Stream::new(stream))));
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection::Two(sender))
    }

    /// The request as it is sent here.
    ///
    /// # Errors
    /// When path or authority cannot stand in a URI.
    pub fn write(&self, request: &Request) -> Result<Wire> {
        if self.http == Http::One {
            return Ok(Wire::One(request.written()));
        }
        let uri = format!("https://{}{}", request.authority, request.path);
        let builder = http::Request::builder().method(&request.method).uri(uri);
        let mut written = builder.body(Full::new(request.body.clone()))?;
        *written.headers_mut() = request.headers.clone();
        Ok(Wire::Two(Box::new(written)))
    }
}

impl Connection {
    /// Another handle of the same connection, where one carries several requests at once.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(sender) => Some(Self::Two(sender.clone())),
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn send(&mut self, request: &Wire) -> Result<Answer> {
        match (self, request) {
            (Self::One(stream), Wire::One(bytes)) => stream.exchange(bytes).await,
            (Self::Two(sender), Wire::Two(request)) => {
                sender.ready().await?;
                let response = sender.send_request(http::Request::clone(request)).await?;
                let status = response.status().as_u16();
                Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
            }
            _ => bail!("the request was written for another version of HTTP"),
        }
    }
}

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A stream that carries one HTTP/1.1 exchange after another.
pub struct Stream {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
}

/// How long an answer's body is.
enum Length {
    Known(usize),
    Chunked,
}

impl Stream {
    fn new(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: BytesMut::with_capacity(16 << 10) }
    }

    async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let (status, head, length) = loop {
            if let Some(head) = read_head(&self.buffer)? {
                break head;
            }
            self.read().await?;
        };
        self.buffer.advance(head);
        let body = match length {
            Length::Known(length) => {
                while self.buffer.len() < length {
                    self.read().await?;
                }
                self.buffer.split_to(length).freeze()
            }
            Length::Chunked => self.read_chunks().await?,
        };
        Ok(Answer { status, body })
    }

    async fn read_chunks(&mut self) -> Result<Bytes> {
        let mut body = BytesMut::new();
        loop {
            let (start, size) = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((start, size))) => break (start, usize::try_from(size)?),
                    Ok(httparse::Status::Partial) => self.read().await?,
                    Err(_) => bail!("a malformed chunk"),
                }
            };
            // The chunk, or no trailers, and the line's end behind it.
            while self.buffer.len() < start + size + 2 {
                self.read().await?;
            }
            self.buffer.advance(start);
            body.extend_from_slice(&self.buffer.split_to(size));
            self.buffer.advance(2);
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.buffer.len() > MAX_ANSWER {
            bail!("the answer is too long");
        }
        self.buffer.reserve(8 << 10);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the connection was closed");
        }
        Ok(())
    }
}

/// Status, length of the head, and length of the body; `None` while the head is incomplete.
fn read_head(bytes: &[u8]) -> Result<Option<(u16, usize, Length)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head) = response.parse(bytes).context("a malformed answer")? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    let length = match (field("content-length"), field("transfer-encoding")) {
        (Some(length), _) => Length::Known(length.trim().parse().context("a malformed Content-Length")?),
        (None, Some(_)) => Length::Chunked,
        (None, None) => Length::Known(0),
    };
    Ok(Some((status, head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(bytes: &[&[u8]]) -> Vec<(u16, Bytes)> {
        let (client, mut server) = tokio::io::duplex(64);
        let all = bytes.concat();
        let server = async move {
            let mut request = [0; 4];
            for _ in 0..2 {
                server.read_exact(&mut request).await.unwrap();
                server.write_all(&all).await.unwrap();
            }
        };
        let client = async move {
            let mut stream = Stream::new(client);
            let mut read = Vec::new();
            for _ in 0..2 {
                let answer = stream.exchange(b"GET ").await.unwrap();
                read.push((answer.status, answer.body));
            }
            read
        };
        tokio::join!(server, client).1
    }

    #[tokio::test]
    async fn answers_are_read_whole_and_one_after_the_other() {
        let known: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(answers(&[known]).await, vec![(201, "hello".into()), (201, "hello".into())]);
        let chunked: &[u8] =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n";
        assert_eq!(answers(&[chunked]).await, vec![(200, "hello world".into()), (200, "hello world".into())]);
    }
}
