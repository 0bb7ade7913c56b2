//! Traces told to a collector by OTLP, over gRPC or HTTP, as the standard `OTEL_*` variables say.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>, <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>

mod collector;
mod export;
mod message;
mod sampler;
mod settings;

pub use collector::{Collector, CollectorFile, NotTaken};
pub use export::{Exporting, start};
pub use sampler::Sampler;
pub use settings::{CollectorSettings, Protocol, Settings, WrongVariable};
