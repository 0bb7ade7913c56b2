//! What operators see of the gateway: metrics, JSON log lines, trace ids. Knows only the domain, so
//! that every stage may report here.

pub mod access;
mod exemplars;
mod instrument;
mod line;
pub mod log;
pub mod metrics;
pub mod openmetrics;
pub mod otlp;
pub mod spans;
pub mod trace;
pub mod tracer;
pub mod trail;
