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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::admin_tls::AdminTls;
use super::error::CommandError;
use crate::config::overview::AdminClient;
use crate::domain::secret::SecretString;
use crate::merchant::TlsFailure;
use crate::operator::wire::ErrorAnswer;

/// For a connection to a listener that is most likely on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than a list of as many claims as may be asked for.
const ANSWER_BYTES: usize = 64 << 20;

/// A gateway's admin listener, and who asks.
pub(super) struct Admin {
    address: SocketAddr,
    tls: Option<AdminTls>,
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
    /// TLS with it failed.
    #[error("TLS with the admin listener, {address}, failed: {}{}", failure.as_str().replace('_', " "), hint(*failure))]
    Tls {
        /// Where.
        address: SocketAddr,
        /// What of it.
        failure: TlsFailure,
    },
    /// The connection broke, or what was answered is no HTTP.
    #[error("the gateway's answer broke off: {0}; does its configuration say whether it speaks TLS there?")]
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

/// What to look at.
const fn hint(failure: TlsFailure) -> &'static str {
    match failure {
        TlsFailure::UnknownIssuer => ": `admin.client.ca_file` or --admin-ca names who vouches for it",
        TlsFailure::WrongName => ": `admin.client.name` or --admin-name says whose certificate it is",
        TlsFailure::ClientCertificate => {
            ": it lets in who shows a certificate of its authority, by `admin.client` or --admin-certificate"
        }
        TlsFailure::NotSpoken => ": is it TLS that it speaks?",
        TlsFailure::Expired
        | TlsFailure::NotYetValid
        | TlsFailure::Certificate
        | TlsFailure::Incompatible
        | TlsFailure::Alert
        | TlsFailure::Ended
        | TlsFailure::Other => "",
    }
}

impl Admin {
    /// The listener at `address`, asked with `credential`, and by TLS where `client` says how.
    ///
    /// # Errors
    /// A file that `client` names and that cannot be used.
    pub(super) fn new(
        address: SocketAddr,
        client: Option<AdminClient>,
        credential: SecretString,
    ) -> Result<Self, CommandError> {
        // Who listens everywhere is reached on this machine.
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let tls = client.map(|client| AdminTls::new(&client, ip)).transpose()?;
        Ok(Self { address: SocketAddr::new(ip, address.port()), tls, credential })
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
        let stream = stream.map_err(unreachable)?;
        let Some(tls) = &self.tls else { return self.converse(stream, request).await };
        let failed = |failure| AdminError::Tls { address, failure };
        let shaken = tokio::time::timeout(CONNECT_TIMEOUT, tls.protect(stream)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = shaken.map_err(|error| failed(TlsFailure::of(&error)))?;
        self.converse(stream, request).await
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<(u16, Bytes), AdminError> {
        // That a certificate is wanted is said only when something was sent (RFC 8446 §4.4.2.4).
        let broken_off = |error: hyper::Error| match TlsFailure::of_ending(&error) {
            Some(failure) => AdminError::Tls { address: self.address, failure },
            None => AdminError::BrokenOff(error.into()),
        };
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken_off)?;
        let exchange = async {
            let response = client.send_request(request).await.map_err(broken_off)?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
            Ok((status, body.map_err(AdminError::BrokenOff)?.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        // In one task: of two, that of the connection could end just as it is handed the request, and nobody
        // would ever hear of it.
        let ended = tokio::select! {
            biased;
            answered = &mut exchange => return answered,
            ended = connection => ended,
        };
        // What came before the end is there; if that was nothing, it is the connection that knows why.
        match (exchange.await, ended) {
            (Err(_), Err(why)) => Err(broken_off(why)),
            (answered, _) => answered,
        }
    }
}
