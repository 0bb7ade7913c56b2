//! Traces as OTLP's messages. No body, token, card or credential is among what they say: only names that
//! are configured, words of our own, and ids that may be logged.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::telemetry::spans::{Ended, Lineage, Outcome, Stage, Told};

/// Flags of a span (opentelemetry-proto, `SpanFlags`): it is known whether its parent is elsewhere, and it is.
const PARENT_IS_REMOTE: u32 = 0x300;

/// One message with the spans of all of these.
pub(super) fn request(resource: &[(String, String)], traces: &[Told]) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(name, value)| attribute(name, text(value))).collect();
    let scope = InstrumentationScope {
        name: "countersign".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = traces.iter().flat_map(spans).collect();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }],
            schema_url: String::new(),
        }],
    }
}

/// How many spans a trace has.
pub(super) fn count(told: &Told) -> usize {
    told.stages.len().saturating_add(1)
}

fn spans(told: &Told) -> Vec<Span> {
    let mut spans = vec![request_span(told)];
    spans.extend(told.stages.iter().map(|stage| stage_span(told, stage)));
    spans
}

fn request_span(told: &Told) -> Span {
    let Outcome { route, status, decision, cause, agent, merchant, request_id, is_failure, ended } =
        &told.outcome;
    let mut attributes =
        vec![attribute("countersign.route", text(route)), attribute("countersign.decision", text(decision))];
    let names = [
        ("http.request.method", told.template.map(|(method, _)| text(method))),
        ("http.route", told.template.map(|(_, path)| text(path))),
        ("url.scheme", Some(text("https"))),
        ("countersign.agent", agent.as_ref().map(|agent| text(agent.as_str()))),
        ("countersign.merchant", merchant.as_ref().map(|merchant| text(merchant.as_str()))),
        ("countersign.request_id", request_id.as_ref().map(|id| text(id.as_str()))),
        ("http.response.status_code", status.map(|status| any_value::Value::IntValue(status.into()))),
        ("error.type", cause.map(text)),
    ];
    attributes.extend(names.into_iter().filter_map(|(name, value)| Some(attribute(name, value?))));
    let (parent, flags, links) = match &told.lineage {
        Lineage::Own => (Vec::new(), 0, Vec::new()),
        Lineage::Honoured(parent) => (parent.parent_id().bytes().to_vec(), PARENT_IS_REMOTE, Vec::new()),
        Lineage::Passed(other) => {
            let link = Link {
                trace_id: other.trace_id().bytes().to_vec(),
                span_id: other.parent_id().bytes().to_vec(),
                ..Link::default()
            };
            (Vec::new(), 0, vec![link])
        }
    };
    Span {
        span_id: told.id.bytes().to_vec(),
        parent_span_id: parent,
        flags,
        links,
        name: told.template.map_or("HTTP".to_owned(), |(method, path)| [method, path].join(" ")),
        attributes,
        status: is_failure.then(failed),
        ..within(told, SpanKind::Server, told.began, *ended)
    }
}

fn stage_span(told: &Told, ended: &Ended) -> Span {
    let kind = if ended.stage == Stage::Upstream { SpanKind::Client } else { SpanKind::Internal };
    let merchant = told.outcome.merchant.as_ref().filter(|_| ended.stage == Stage::Upstream);
    let asked = ended.asked.as_deref();
    let said = [
        ("http.request.method", asked.map(|asked| text(asked.method.as_str()))),
        ("server.address", asked.map(|asked| text(&asked.server))),
        ("server.port", asked.map(|asked| any_value::Value::IntValue(asked.port.into()))),
        ("countersign.merchant", merchant.map(|merchant| text(merchant.as_str()))),
        ("http.response.status_code", ended.status.map(|status| any_value::Value::IntValue(status.into()))),
        ("error.type", ended.cause.map(text)),
    ];
    let is_failure = ended.cause.is_some() || ended.status.is_some_and(|status| status >= 400);
    Span {
        span_id: ended.id.bytes().to_vec(),
        parent_span_id: told.id.bytes().to_vec(),
        name: ended.stage.as_str().to_owned(),
        attributes: said.into_iter().filter_map(|(name, value)| Some(attribute(name, value?))).collect(),
        status: is_failure.then(failed),
        ..within(told, kind, ended.began, ended.ended)
    }
}

/// A span of this trace, of this kind and time.
fn within(told: &Told, kind: SpanKind, began: Instant, ended: Instant) -> Span {
    let at = |instant: Instant| {
        let origin = u64::try_from(told.at.unix_millis()).unwrap_or_default();
        let since = instant.saturating_duration_since(told.began);
        u64::try_from((Duration::from_millis(origin) + since).as_nanos()).unwrap_or(u64::MAX)
    };
    Span {
        trace_id: told.trace_id.bytes().to_vec(),
        kind: kind.into(),
        start_time_unix_nano: at(began),
        end_time_unix_nano: at(ended),
        ..Span::default()
    }
}

fn failed() -> Status {
    Status { code: StatusCode::Error.into(), message: String::new() }
}

fn text(value: &str) -> any_value::Value {
    any_value::Value::StringValue(value.to_owned())
}

fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
