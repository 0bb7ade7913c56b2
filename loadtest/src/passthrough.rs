//! The measure of all things here: the least that hyper can do as a TLS proxy. TLS 1.3 in front,
//! a pool of plain HTTP/1.1 connections behind, bodies streamed, nothing looked at.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Args;
use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Either;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Where the pass-through listens and forwards.
#[derive(Args)]
pub struct PassThrough {
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// Where it forwards to, in plain HTTP/1.1.
    #[arg(long)]
    upstream: Authority,
    /// PEM: the server's certificate.
    #[arg(long)]
    certificate: PathBuf,
    /// PEM: its private key.
    #[arg(long)]
    key: PathBuf,
}

type Upstream = Client<HttpConnector, Incoming>;

impl PassThrough {
    /// Serves until the process ends.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn serve(self) -> Result<()> {
        let tls = TlsAcceptor::from(Arc::new(self.tls()?));
        let listener = TcpListener::bind(self.listen).await?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let upstream: Upstream = Client::builder(TokioExecutor::new()).build(connector);
        let authority = self.upstream;
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let (tls, upstream, authority) = (tls.clone(), upstream.clone(), authority.clone());
            tokio::spawn(async move {
                let Ok(stream) = tls.accept(stream).await else { return };
                let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let service = service_fn(|request| forward(&upstream, &authority, request));
                // A client that hangs up is its own affair.
                if is_h2 {
                    let server = http2::Builder::new(TokioExecutor::new());
                    let service = service_fn(move |request| {
                        let (upstream, authority) = (upstream.clone(), authority.clone());
                        async move { forward(&upstream, &authority, request).await }
                    });
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                } else {
                    let server = http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                }
            });
        }
    }

    fn tls(&self) -> Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_file(&self.certificate).context("the certificate")?;
        let key = PrivateKeyDer::from_pem_file(&self.key).context("the key")?;
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(tls)
    }
}

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

async fn forward(
    upstream: &Upstream,
    authority: &Authority,
    mut request: Request<Incoming>,
) -> Result<Answer, http::Error> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = http::Version::HTTP_11;
    request.headers_mut().remove(http::header::HOST);
    match upstream.request(request).await {
        Ok(response) => Ok(response.map(Either::Left)),
        Err(_) => Response::builder().status(StatusCode::BAD_GATEWAY).body(Either::Right(Empty::new())),
    }
}
