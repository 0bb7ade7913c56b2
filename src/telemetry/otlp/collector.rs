//! One message to the collector, and what it says of it.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::{CollectorSettings, Protocol};

/// Where a collector of traces listens for gRPC.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// More than any answer says.
const MOST_ANSWERED: usize = 64 * 1024;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// A message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// No connection, or it broke.
    #[error("unreachable")]
    Unreachable,
    /// No answer in time.
    #[error("no answer in time")]
    Late,
    /// Not now.
    #[error("it has no room now")]
    Busy,
    /// Not this, however often.
    #[error("refused with status {0}")]
    Refused(u16),
    /// No answer of such a collector.
    #[error("the answer is no collector's")]
    NoCollector,
}

impl NotTaken {
    /// In a word, for the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::Refused(_) => "refused",
            Self::NoCollector => "no_collector",
        }
    }

    /// Whether the same may be taken later (OTLP, "Retryable Response Codes").
    pub const fn is_for_now(self) -> bool {
        match self {
            Self::Unreachable | Self::Late | Self::Busy => true,
            Self::Refused(_) | Self::NoCollector => false,
        }
    }
}

/// A file that TLS towards the collector needs.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct CollectorFile {
    /// The variable that names it.
    pub name: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The way to a collector.
pub struct Collector {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: CollectorSettings,
}

impl Collector {
    /// A way to it. Nothing is connected yet.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn new(settings: CollectorSettings) -> Result<Self, CollectorFile> {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls(&settings)?).https_or_http();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(settings.timeout));
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(60));
        // One that vanished without a word would be written to until the kernel gives it up.
        client.timer(TokioTimer::new()).http2_keep_alive_while_idle(true);
        client.http2_keep_alive_interval(Duration::from_secs(10)).http2_keep_alive_timeout(settings.timeout);
        let connector = match settings.protocol {
            Protocol::Grpc => {
                client.http2_only(true);
                builder.enable_http2().wrap_connector(http)
            }
            Protocol::HttpProtobuf => builder.enable_all_versions().wrap_connector(http),
        };
        Ok(Self { client: client.build(connector), settings })
    }

    /// Sends a message. How many of its spans the collector says it has rejected: they are not to be sent again
    /// (OTLP, "Partial Success").
    ///
    /// # Errors
    /// It was not taken, as far as is known.
    pub async fn send(&self, message: &ExportTraceServiceRequest) -> Result<usize, NotTaken> {
        let request = self.post(message).map_err(|_| NotTaken::NoCollector)?;
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|_| NotTaken::Unreachable)?;
            self.judge(answer).await
        };
        tokio::time::timeout(self.settings.timeout, exchange).await.unwrap_or(Err(NotTaken::Late))
    }

    fn post(&self, message: &ExportTraceServiceRequest) -> Result<Request<Full<Bytes>>, http::Error> {
        let CollectorSettings { endpoint, protocol, headers, is_gzip, .. } = &self.settings;
        let encoded = message.encode_to_vec();
        let encoded = if *is_gzip { compressed(&encoded) } else { encoded };
        let mut request = Request::post(endpoint.clone());
        let body = match protocol {
            Protocol::Grpc => {
                let mut parts = endpoint.clone().into_parts();
                parts.path_and_query = Some(http::uri::PathAndQuery::from_static(GRPC_PATH));
                request = request.uri(Uri::from_parts(parts)?).header(CONTENT_TYPE, "application/grpc");
                request = request.header(TE, "trailers");
                if *is_gzip {
                    request = request.header(GRPC_ENCODING, GZIP);
                }
                framed(&encoded, *is_gzip)
            }
            Protocol::HttpProtobuf => {
                request = request.header(CONTENT_TYPE, "application/x-protobuf");
                if *is_gzip {
                    request = request.header(CONTENT_ENCODING, GZIP);
                }
                encoded.into()
            }
        };
        request = request.header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(Full::new(body))
    }

    async fn judge(&self, answer: Response<Incoming>) -> Result<usize, NotTaken> {
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_ANSWERED).collect().await.map_err(|_| NotTaken::NoCollector)?;
        match (self.settings.protocol, head.status) {
            (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY) => Err(NotTaken::Busy),
            (_, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => Err(NotTaken::Busy),
            (Protocol::HttpProtobuf, status) if status.is_success() => Ok(rejected(body.to_bytes())),
            (Protocol::Grpc, StatusCode::OK) => {
                let told = grpc_status(&head.headers).or_else(|| body.trailers().and_then(grpc_status));
                match told.ok_or(NotTaken::NoCollector)? {
                    // An answer that is compressed was not asked for, and says nothing.
                    0 => Ok(body
                        .to_bytes()
                        .strip_prefix(&[0])
                        .and_then(|rest| rest.get(4..))
                        .map_or(0, rejected)),
                    // Canceled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
                    1 | 4 | 8 | 10 | 11 | 14 | 15 => Err(NotTaken::Busy),
                    code => Err(NotTaken::Refused(code)),
                }
            }
            (_, status) => Err(NotTaken::Refused(status.as_u16())),
        }
    }
}

/// How many spans an answer says it has not taken; what does not read says nothing of it.
fn rejected(answer: impl Buf) -> usize {
    let said = ExportTraceServiceResponse::decode(answer).unwrap_or_default().partial_success;
    said.map_or(0, |partly| usize::try_from(partly.rejected_spans).unwrap_or(0))
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// As gRPC frames a message over HTTP/2: whether it is compressed, how long it is, itself.
fn framed(message: &[u8], is_gzip: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(5));
    frame.put_u8(is_gzip.into());
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn compressed(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Memory takes everything.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

fn tls(settings: &CollectorSettings) -> Result<ClientConfig, CollectorFile> {
    let mut roots = RootCertStore::empty();
    match &settings.authorities {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let name = "OTEL_EXPORTER_OTLP_CERTIFICATE";
            for certificate in certificates(name, path)? {
                roots.add(certificate).map_err(|error| CollectorFile { name, reason: error.to_string() })?;
            }
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let Some((certificate, key)) = &settings.client else { return Ok(builder.with_no_client_auth()) };
    let name = "OTEL_EXPORTER_OTLP_CLIENT_KEY";
    let unusable = |reason: String| CollectorFile { name, reason };
    let chain = certificates("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(error.to_string()))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))
}

fn certificates(name: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, CollectorFile> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| CollectorFile { name, reason: error.to_string() })?;
    match found.is_empty() {
        true => Err(CollectorFile { name, reason: "no certificate in it".to_owned() }),
        false => Ok(found),
    }
}
