//! The collector of traces that the environment names: whether it takes a message without spans.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::finding::{Finding, Subject};
use crate::telemetry::otlp::{Collector, Settings};

/// Looks at it; nothing where none is named.
pub(super) async fn collector(settings: Option<Settings>) -> Vec<Finding> {
    let Some(settings) = settings else { return Vec::new() };
    let endpoint = &settings.collector.endpoint;
    let subject =
        Subject(format!("collector {}", endpoint.authority().map_or("", |authority| authority.as_str())));
    let collector = match Collector::new(settings.collector) {
        Ok(collector) => collector,
        Err(unusable) => return vec![subject.faulty("files", unusable.to_string())],
    };
    vec![match collector.send(&ExportTraceServiceRequest::default()).await {
        Ok(_) => subject.good("answers", "it takes traces".to_owned()),
        // Without it money moves all the same.
        Err(not) => subject.doubtful("answers", not.to_string()),
    }]
}
