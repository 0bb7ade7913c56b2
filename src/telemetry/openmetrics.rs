//! The samples as OpenMetrics, which alone of the two text formats can name a trace beside a sample.
//!
//! The library writes the older one only. <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::fmt::Write as _;

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};

use super::exemplars::Exemplars;

/// What the format is called in `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MEDIA_TYPE: &str = "application/openmetrics-text";

/// Whether these values of `Accept` (RFC 9110 §12.5.1) ask for it, and not rather for plain text. By name only:
/// whoever takes anything gets what has always been there.
pub fn is_asked_for<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
    let (mut asked, mut plain) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0));
        if kind.eq_ignore_ascii_case(MEDIA_TYPE) {
            asked = asked.max(weight);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            plain = plain.max(weight);
        }
    }
    asked > 0.0 && asked >= plain
}

/// Writes families in this format.
pub(super) fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(32 * 1024);
    for family in families {
        write_family(family, exemplars, &mut out);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(family: &MetricFamily, exemplars: &Exemplars, out: &mut String) {
    let name = family.name();
    let (told, kind) = match family.get_field_type() {
        // Here the family has the name without what its samples end in.
        MetricType::COUNTER => match name.strip_suffix("_total") {
            Some(told) => (told, "counter"),
            None => (name, "unknown"),
        },
        MetricType::GAUGE => (name, "gauge"),
        MetricType::HISTOGRAM => (name, "histogram"),
        // Nothing here makes one.
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    let _ = writeln!(out, "# TYPE {told} {kind}");
    let _ = writeln!(out, "# HELP {told} {}", escaped(family.help()));
    for metric in family.get_metric() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => write_sample(name, labels, None, metric.get_counter().get_value(), out),
            MetricType::GAUGE => write_sample(name, labels, None, metric.get_gauge().get_value(), out),
            MetricType::HISTOGRAM => {
                write_histogram(name, labels, metric.get_histogram(), exemplars, out);
                continue;
            }
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        }
        out.push('\n');
    }
}

fn write_histogram(
    name: &str,
    labels: &[LabelPair],
    histogram: &Histogram,
    exemplars: &Exemplars,
    out: &mut String,
) {
    let label = labels.first().map_or("", LabelPair::value);
    let bucket = format!("{name}_bucket");
    let whole = (f64::INFINITY, histogram.get_sample_count());
    let bounded =
        histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let mut above = f64::NEG_INFINITY;
    for (bound, count) in bounded.filter(|(bound, _)| bound.is_finite()).chain([whole]) {
        write_sample(&bucket, labels, Some(bound), count, out);
        if let Some(exemplar) = exemplars.within(name, label, above, bound) {
            let (trace, seconds, at) = (exemplar.trace, exemplar.seconds, exemplar.at.unix_millis());
            let (whole, rest) = (at.div_euclid(1000), at.rem_euclid(1000));
            let _ = write!(out, " # {{trace_id=\"{trace}\"}} {seconds} {whole}.{rest:03}");
        }
        out.push('\n');
        above = bound;
    }
    write_sample(&format!("{name}_count"), labels, None, histogram.get_sample_count(), out);
    out.push('\n');
    write_sample(&format!("{name}_sum"), labels, None, histogram.get_sample_sum(), out);
    out.push('\n');
}

fn write_sample(
    name: &str,
    labels: &[LabelPair],
    bound: Option<f64>,
    value: impl std::fmt::Display,
    out: &mut String,
) {
    out.push_str(name);
    let mut before = '{';
    for pair in labels {
        let _ = write!(out, "{before}{}=\"{}\"", pair.name(), escaped(pair.value()));
        before = ',';
    }
    if let Some(bound) = bound {
        let _ = write!(out, "{before}le=\"{}\"", canonical(bound));
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    let _ = write!(out, " {value}");
}

/// A bound as every writer of this format spells it (OpenMetrics, "Considerations: Canonical Numbers"): `1.0`,
/// `0.00025`, `5e-05`.
fn canonical(bound: f64) -> String {
    if bound.is_infinite() {
        return "+Inf".to_owned();
    }
    let text = if bound != 0.0 && bound.abs() < 1e-4 { format!("{bound:e}") } else { bound.to_string() };
    match text.split_once("e-") {
        Some((digits, power)) => format!("{digits}e-{power:0>2}"),
        None if text.contains('.') => text,
        None => text + ".0",
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

    use super::super::exemplars::Exemplar;
    use super::super::trace::TraceId;
    use super::*;
    use crate::domain::clock::Timestamp;

    #[test]
    fn it_is_written_where_it_is_named_and_nothing_else_is_preferred() {
        for (accept, expected) in [
            (vec![], false),
            (vec!["*/*"], false),
            (vec!["text/plain"], false),
            (vec!["application/openmetrics-text"], true),
            (vec!["application/openmetrics-text; version=1.0.0; charset=utf-8"], true),
            (vec!["text/plain;q=0.5", "Application/OpenMetrics-Text;Q=0.6"], true),
            (vec!["text/plain, application/openmetrics-text;q=0.9"], false),
            (vec!["application/openmetrics-text;q=0"], false),
            (vec!["application/openmetrics-text;q=much"], false),
            // As Prometheus asks.
            (
                vec![
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                     q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ],
                true,
            ),
        ] {
            assert_eq!(is_asked_for(accept.iter().copied()), expected, "{accept:?}");
        }
    }

    #[test]
    fn every_kind_of_metric_is_written_and_a_bucket_names_its_last_trace() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("done_total", "What is \"done\"."), &["how"]).unwrap();
        let gauge = IntGauge::new("open", "Line\nbreak.").unwrap();
        let bounds = vec![0.000_05, 0.5, 1.0];
        let options = HistogramOpts::new("took_seconds", "How long.").buckets(bounds.clone());
        let took = HistogramVec::new(options, &["route"]).unwrap();
        registry.register(Box::new(counter.clone())).unwrap();
        registry.register(Box::new(gauge.clone())).unwrap();
        registry.register(Box::new(took.clone())).unwrap();
        counter.with_label_values(&["a\\\"b"]).inc_by(3);
        gauge.set(-2);
        let exemplars = Exemplars::default();
        for (seconds, number) in [(0.25, 1), (0.5, 2), (7.0, 3)] {
            took.with_label_values(&["pay"]).observe(seconds);
            let (trace, at) = (TraceId::of([number; 16]), Timestamp::from_unix_millis(1_500));
            exemplars.note("took_seconds", "pay", &bounds, Exemplar { seconds, trace, at });
        }
        took.with_label_values(&["look"]).observe(0.25);
        let two = "02".repeat(16);
        let three = "03".repeat(16);
        let expected = format!(
            "# TYPE done counter\n\
             # HELP done What is \\\"done\\\".\n\
             done_total{{how=\"a\\\\\\\"b\"}} 3\n\
             # TYPE open gauge\n\
             # HELP open Line\\nbreak.\n\
             open -2\n\
             # TYPE took_seconds histogram\n\
             # HELP took_seconds How long.\n\
             took_seconds_bucket{{route=\"look\",le=\"5e-05\"}} 0\n\
             took_seconds_bucket{{route=\"look\",le=\"0.5\"}} 1\n\
             took_seconds_bucket{{route=\"look\",le=\"1.0\"}} 1\n\
             took_seconds_bucket{{route=\"look\",le=\"+Inf\"}} 1\n\
             took_seconds_count{{route=\"look\"}} 1\n\
             took_seconds_sum{{route=\"look\"}} 0.25\n\
             took_seconds_bucket{{route=\"pay\",le=\"5e-05\"}} 0\n\
             took_seconds_bucket{{route=\"pay\",le=\"0.5\"}} 2 # {{trace_id=\"{two}\"}} 0.5 1.500\n\
             took_seconds_bucket{{route=\"pay\",le=\"1.0\"}} 2\n\
             took_seconds_bucket{{route=\"pay\",le=\"+Inf\"}} 3 # {{trace_id=\"{three}\"}} 7 1.500\n\
             took_seconds_count{{route=\"pay\"}} 3\n\
             took_seconds_sum{{route=\"pay\"}} 7.75\n\
             # EOF\n"
        );
        assert_eq!(encode(&registry.gather(), &exemplars), expected);
        exemplars.forget("took_seconds", "pay");
        assert!(!encode(&registry.gather(), &exemplars).contains("trace_id"));
    }
}
