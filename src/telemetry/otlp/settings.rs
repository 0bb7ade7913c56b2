//! What the standard variables say of traces: where they go, how, and which.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri};

use super::sampler::Sampler;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Grpc,
    /// Protobuf as the body of a POST.
    HttpProtobuf,
}

/// The collector.
#[derive(Clone)]
pub struct CollectorSettings {
    /// Where it listens: for gRPC without a path.
    pub endpoint: Uri,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What every message has besides, such as a credential.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The time for one answer.
    pub timeout: Duration,
    /// Whether messages are compressed.
    pub is_gzip: bool,
    /// PEM: authorities trusted for it instead of the system's.
    pub authorities: Option<PathBuf>,
    /// PEM: the certificate and the key that are shown to it.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// All that the variables say.
#[derive(Clone)]
pub struct Settings {
    /// Where traces go.
    pub collector: CollectorSettings,
    /// What is said of this process, `service.name` among it.
    pub resource: Vec<(String, String)>,
    /// Which requests are traced that did not fail.
    pub sampler: Sampler,
    /// How long spans wait for company.
    pub delay: Duration,
    /// How long a message is tried.
    pub export_timeout: Duration,
    /// Spans that wait at most.
    pub queue: usize,
    /// Spans in a message.
    pub batch: usize,
}

/// A variable that says what cannot be done. Never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongVariable {
    /// Its name.
    pub name: String,
    /// What was expected.
    pub message: &'static str,
}

/// Looks up a variable.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

struct Reader<'e> {
    environment: Environment<'e>,
    wrong: Vec<WrongVariable>,
}

impl Settings {
    /// Reads the variables. `None` where no collector is named: `OTEL_EXPORTER_OTLP_ENDPOINT` or the like for traces
    /// alone, or `OTEL_TRACES_EXPORTER=otlp` for one on this machine.
    ///
    /// # Errors
    /// Every variable that is wrong.
    pub fn read(environment: Environment<'_>) -> Result<Option<Self>, Vec<WrongVariable>> {
        let mut reader = Reader { environment, wrong: Vec::new() };
        let is_disabled =
            reader.value("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let exporter = reader.value("OTEL_TRACES_EXPORTER");
        let is_named = reader.value("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
            || reader.value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some();
        match exporter.as_deref() {
            _ if is_disabled => return Ok(None),
            Some("none") => return Ok(None),
            None if !is_named => return Ok(None),
            None | Some("otlp") => {}
            Some(_) => reader.wrong("OTEL_TRACES_EXPORTER", "expected \"otlp\" or \"none\""),
        }
        let settings = reader.settings();
        if reader.wrong.is_empty() { Ok(settings) } else { Err(reader.wrong) }
    }
}

impl Reader<'_> {
    /// What a variable says; an empty one says nothing.
    fn value(&self, name: &str) -> Option<String> {
        (self.environment)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// What is said of traces alone, or else of everything: with the name of the variable that says it.
    fn of_exporter(&self, what: &str) -> Option<(String, String)> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].into_iter().find_map(|prefix| {
            let name = format!("{prefix}{what}");
            self.value(&name).map(|value| (name, value))
        })
    }

    fn wrong(&mut self, name: &str, message: &'static str) {
        self.wrong.push(WrongVariable { name: name.to_owned(), message });
    }

    fn settings(&mut self) -> Option<Settings> {
        let collector = self.collector();
        let argument = self.value("OTEL_TRACES_SAMPLER_ARG");
        let sampler =
            self.value("OTEL_TRACES_SAMPLER").map(|name| Sampler::parse(&name, argument.as_deref()));
        let sampler = sampler.unwrap_or(Ok(Sampler::default())).unwrap_or_else(|(name, message)| {
            self.wrong(name, message);
            Sampler::default()
        });
        let delay = self.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000);
        let export_timeout = self.milliseconds("OTEL_BSP_EXPORT_TIMEOUT", 30_000);
        let queue = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512);
        if batch > queue {
            self.wrong("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "must not be above OTEL_BSP_MAX_QUEUE_SIZE");
        }
        let resource = self.resource();
        Some(Settings { collector: collector?, resource, sampler, delay, export_timeout, queue, batch })
    }

    fn collector(&mut self) -> Option<CollectorSettings> {
        let protocol = match self.of_exporter("PROTOCOL") {
            None => Protocol::HttpProtobuf,
            Some((_, word)) if word == "http/protobuf" => Protocol::HttpProtobuf,
            Some((_, word)) if word == "grpc" => Protocol::Grpc,
            Some((name, _)) => {
                self.wrong(&name, "expected \"grpc\" or \"http/protobuf\"");
                Protocol::HttpProtobuf
            }
        };
        let is_gzip = match self.of_exporter("COMPRESSION") {
            None => false,
            Some((_, word)) if word == "none" => false,
            Some((_, word)) if word == "gzip" => true,
            Some((name, _)) => {
                self.wrong(&name, "expected \"gzip\" or \"none\"");
                false
            }
        };
        let timeout = match self.of_exporter("TIMEOUT") {
            None => Duration::from_secs(10),
            Some((name, _)) => self.milliseconds(&name, 10_000),
        };
        let headers = self.headers();
        let file = |this: &Self, what: &str| this.of_exporter(what).map(|(_, path)| PathBuf::from(path));
        let authorities = file(self, "CERTIFICATE");
        let client = match (file(self, "CLIENT_CERTIFICATE"), file(self, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                self.wrong("OTEL_EXPORTER_OTLP_CLIENT_KEY", "needs a certificate beside it, and it a key");
                None
            }
        };
        let endpoint = self.endpoint(protocol)?;
        Some(CollectorSettings { endpoint, protocol, headers, timeout, is_gzip, authorities, client })
    }

    /// One for traces alone is taken as it stands, one for everything is a base (OpenTelemetry, "Endpoint URLs for
    /// OTLP/HTTP"); for gRPC no path matters.
    fn endpoint(&mut self, protocol: Protocol) -> Option<Uri> {
        const EXPECTED: &str = "expected a URL such as http://collector:4318";
        let port = match protocol {
            Protocol::Grpc => 4317,
            Protocol::HttpProtobuf => 4318,
        };
        let (name, text) = self.of_exporter("ENDPOINT").unwrap_or_else(|| {
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://localhost:{port}"))
        });
        let is_base = name == "OTEL_EXPORTER_OTLP_ENDPOINT";
        let uri: Option<Uri> = text.parse().ok();
        let uri = uri.and_then(|uri| {
            let scheme = uri.scheme().filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(*scheme))?;
            let authority: &Authority =
                uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
            let path = match (protocol, is_base) {
                (Protocol::Grpc, _) => "/".to_owned(),
                (Protocol::HttpProtobuf, true) => format!("{}/v1/traces", uri.path().trim_end_matches('/')),
                (Protocol::HttpProtobuf, false) => {
                    uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
                }
            };
            Uri::builder()
                .scheme(scheme.clone())
                .authority(authority.clone())
                .path_and_query(path)
                .build()
                .ok()
        });
        if uri.is_none() {
            self.wrong(&name, EXPECTED);
        }
        uri
    }

    fn headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let Some((name, text)) = self.of_exporter("HEADERS") else { return Vec::new() };
        let read = pairs(&text).and_then(|pairs| {
            let header = |(name, value): (String, String)| {
                let mut value = HeaderValue::from_str(&value).ok()?;
                value.set_sensitive(true);
                Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
            };
            pairs.into_iter().map(header).collect::<Option<Vec<_>>>()
        });
        read.unwrap_or_else(|| {
            self.wrong(&name, "expected name=value,name=value, percent-encoded");
            Vec::new()
        })
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let said = self.value("OTEL_RESOURCE_ATTRIBUTES").map_or(Some(Vec::new()), |text| pairs(&text));
        let mut resource = said.unwrap_or_else(|| {
            self.wrong("OTEL_RESOURCE_ATTRIBUTES", "expected name=value,name=value, percent-encoded");
            Vec::new()
        });
        if let Some(service) = self.value("OTEL_SERVICE_NAME") {
            resource.retain(|(name, _)| name != "service.name");
            resource.push(("service.name".to_owned(), service));
        }
        for (name, value) in [("service.name", "countersign"), ("service.version", env!("CARGO_PKG_VERSION"))]
        {
            if !resource.iter().any(|(said, _)| said == name) {
                resource.push((name.to_owned(), value.to_owned()));
            }
        }
        resource
    }

    fn milliseconds(&mut self, name: &str, default: u64) -> Duration {
        let read =
            self.value(name).map(|text| text.parse().ok().filter(|number| (1..=600_000).contains(number)));
        let number = read.unwrap_or(Some(default)).unwrap_or_else(|| {
            self.wrong(name, "expected milliseconds, from 1 to 600000");
            default
        });
        Duration::from_millis(number)
    }

    fn number(&mut self, name: &str, default: usize) -> usize {
        let read =
            self.value(name).map(|text| text.parse().ok().filter(|number| (1..=1_000_000).contains(number)));
        read.unwrap_or(Some(default)).unwrap_or_else(|| {
            self.wrong(name, "expected a number from 1 to 1000000");
            default
        })
    }
}

/// `name=value,name=value`, values percent-encoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let one = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned())).filter(|(name, _)| !name.is_empty())
    };
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, Vec<WrongVariable>> {
        Settings::read(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_collector_nothing_is_traced() {
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "any"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[("OTEL_SDK_DISABLED", "true"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")],
            &[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
        ] {
            assert!(read(variables).unwrap().is_none(), "{variables:?}");
        }
    }

    #[test]
    fn the_endpoint_of_traces_stands_as_it_is_and_that_of_everything_is_a_base() {
        let endpoint = |variables: &[(&str, &str)]| {
            let CollectorSettings { endpoint, protocol, .. } = read(variables).unwrap().unwrap().collector;
            (endpoint.to_string(), protocol)
        };
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/tenant/");
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let http = Protocol::HttpProtobuf;
        assert_eq!(endpoint(&[all]), ("https://collector:4318/tenant/v1/traces".to_owned(), http));
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:1/in?a=b");
        assert_eq!(endpoint(&[all, traces]), ("http://traces:1/in?a=b".to_owned(), http));
        assert_eq!(endpoint(&[all, grpc]), ("https://collector:4318/".to_owned(), Protocol::Grpc));
        let here = ("OTEL_TRACES_EXPORTER", "otlp");
        assert_eq!(endpoint(&[here]).0, "http://localhost:4318/v1/traces");
        assert_eq!(endpoint(&[here, grpc]).0, "http://localhost:4317/");
    }

    #[test]
    fn headers_and_attributes_are_decoded_and_what_is_unsaid_has_the_standard_value() {
        let said = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, x-tenant = shop"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,zone=a%2Cb"),
            ("OTEL_SERVICE_NAME", "pay"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "600"),
        ]);
        let said = said.unwrap().unwrap();
        let headers: Vec<_> = said
            .collector
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(headers, [("authorization", "Bearer x"), ("x-tenant", "shop")]);
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let version = text("service.version", env!("CARGO_PKG_VERSION"));
        assert_eq!(said.resource, [text("zone", "a,b"), text("service.name", "pay"), version]);
        assert_eq!((said.collector.timeout.as_millis(), said.collector.is_gzip), (250, true));
        assert_eq!((said.queue, said.batch, said.delay.as_millis()), (600, 512, 5_000));
    }

    #[test]
    fn every_wrong_variable_is_named_and_never_its_value() {
        let wrong = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "client.pem"),
            ("OTEL_RESOURCE_ATTRIBUTES", "=1"),
            ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
            ("OTEL_BSP_SCHEDULE_DELAY", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ]);
        let wrong = wrong.err().unwrap();
        let names: Vec<&str> = wrong.iter().map(|wrong| wrong.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "OTEL_TRACES_EXPORTER",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
                "OTEL_EXPORTER_OTLP_COMPRESSION",
                "OTEL_EXPORTER_OTLP_TIMEOUT",
                "OTEL_EXPORTER_OTLP_HEADERS",
                "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "OTEL_TRACES_SAMPLER",
                "OTEL_BSP_SCHEDULE_DELAY",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                "OTEL_RESOURCE_ATTRIBUTES",
            ]
        );
        assert!(
            wrong.iter().all(|wrong| !wrong.message.contains("secret") && !wrong.message.contains("zipkin"))
        );
    }
}
