//! Asks a gateway's admin listener: what the commands for operators call it with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::domain::secret::SecretString;
use crate::operator::wire::ErrorAnswer;

/// For a connection to a listener that is most likely on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than a list of as many claims as may be asked for.
const ANSWER_BYTES: usize = 64 << 20;

/// A gateway's admin listener, and who asks.
pub(super) struct Admin {
    address: SocketAddr,
    credential: SecretString,
}

/// The gateway was not asked, or said no.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody answers there.
    #[error(
        "no gateway answers on its admin listener, {address}: {error}; is it running, and is this its configuration?"
    )]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// The connection broke, or what was answered is no HTTP.
    #[error("the gateway's answer broke off: {0}")]
    BrokenOff(Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("{message} ({status} {code})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
    },
    /// An answer of another shape than this program knows.
    #[error("the gateway answered {status} with something else than expected: is it of another version?")]
    Strange {
        /// The HTTP status.
        status: u16,
    },
    /// The credential cannot stand in a header.
    #[error("the credential holds characters that no credential has")]
    Credential,
}

impl Admin {
    /// The listener at `address`, asked with `credential`.
    pub(super) fn new(address: SocketAddr, credential: SecretString) -> Self {
        // Who listens everywhere is reached on this machine.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Self { address: SocketAddr::new(ip, address.port()), credential }
    }

    /// Sends a request and reads its JSON answer.
    ///
    /// # Errors
    /// [`AdminError`].
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, AdminError> {
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", self.credential.expose()))
            .map_err(|_| AdminError::Credential)?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(AUTHORIZATION, bearer);
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| AdminError::BrokenOff(error.into()))?;
        let (status, body) = self.exchange(request).await?;
        let strange = || AdminError::Strange { status };
        if (200..300).contains(&status) {
            return serde_json::from_slice(&body).map_err(|_| strange());
        }
        let ErrorAnswer { code, message } = serde_json::from_slice(&body).map_err(|_| strange())?;
        Err(AdminError::Refused { status, code, message })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), AdminError> {
        let address = self.address;
        let unreachable = |error| AdminError::Unreachable { address, error };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = TokioIo::new(stream.map_err(unreachable)?);
        let (mut client, connection) =
            http1::handshake(stream).await.map_err(|error| AdminError::BrokenOff(error.into()))?;
        // Ends with the client.
        tokio::spawn(connection);
        let response =
            client.send_request(request).await.map_err(|error| AdminError::BrokenOff(error.into()))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        Ok((status, body.map_err(AdminError::BrokenOff)?.to_bytes()))
    }
}
