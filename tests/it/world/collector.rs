//! A collector of traces, by OTLP over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;

use super::child::LOOK_AGAIN;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the collector does with a message.
#[derive(Clone, Copy)]
pub enum Mood {
    Takes,
    /// But for so many spans of each.
    Rejects(i64),
    HasNoRoom,
    NeverAnswers,
}

/// A collector of OTLP over HTTP.
#[derive(Clone)]
pub struct Collector {
    pub port: u16,
    pub mood: Arc<Mutex<Mood>>,
    pub bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    pub async fn open(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = Self { port, mood: Arc::new(Mutex::new(mood)), bodies: Arc::default() };
        let own = collector.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let own = own.clone();
                let service = service_fn(move |request| own.clone().answer(request));
                let serving = hyper::server::conn::http1::Builder::new();
                tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
            }
        });
        collector
    }

    /// What a shell does before it becomes a gateway that tells this collector; `variables` are further ones.
    pub fn script(&self, variables: &str) -> String {
        let endpoint = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{}", self.port);
        format!("exec env OTEL_BSP_SCHEDULE_DELAY=20 {endpoint} {variables} \"$0\" \"$@\"")
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!(request.uri().path(), "/v1/traces");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mood = *self.mood.lock();
        let status = match mood {
            Mood::Takes | Mood::Rejects(_) => StatusCode::OK,
            Mood::HasNoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Mood::NeverAnswers => std::future::pending().await,
        };
        if status.is_success() {
            self.bodies.lock().push(body);
        }
        let said = match mood {
            Mood::Rejects(rejected_spans) => ExportTraceServiceResponse {
                partial_success: Some(ExportTracePartialSuccess {
                    rejected_spans,
                    ..ExportTracePartialSuccess::default()
                }),
            },
            Mood::Takes | Mood::HasNoRoom | Mood::NeverAnswers => ExportTraceServiceResponse::default(),
        };
        Ok(Response::builder().status(status).body(Full::from(said.encode_to_vec())).unwrap())
    }

    pub fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().clone();
        let told = bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.clone()).unwrap());
        let scopes = told.flat_map(|told| told.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The traces of requests of this route.
    pub fn traces(&self, route: &str) -> Vec<Vec<Span>> {
        let spans = self.spans();
        let roots = spans.iter().filter(|span| span.kind == SpanKind::Server as i32 && span.name == route);
        let of = |root: &Span| {
            let mut trace = vec![root.clone()];
            trace.extend(spans.iter().filter(|span| span.parent_span_id == root.span_id).cloned());
            trace
        };
        roots.map(of).collect()
    }

    /// Waits until this is so.
    pub async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < until, "{:?}", self.spans());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
