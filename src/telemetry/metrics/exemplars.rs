//! What the metrics say of traces: which one shows what a bucket of a histogram holds.

use std::time::Duration;

use super::{ANY_MERCHANT, Metrics};
use crate::domain::clock::Timestamp;
use crate::domain::id::MerchantId;
use crate::telemetry::exemplars::Exemplar;
use crate::telemetry::instrument::BUCKETS;
use crate::telemetry::openmetrics;
use crate::telemetry::trace::TraceId;

const GATEWAY: &str = "countersign_gateway_seconds";
const UPSTREAM: &str = "countersign_upstream_seconds";
const MERCHANT: &str = "countersign_merchant_upstream_seconds";

impl Metrics {
    /// A request that was counted is told as this trace.
    pub fn request_traced(
        &self,
        route: &'static str,
        merchant: Option<&MerchantId>,
        gateway: Duration,
        upstream: Option<Duration>,
        trace: TraceId,
        at: Timestamp,
    ) {
        let exemplars = self.instruments.exemplars();
        let note = |family, label: &str, took: Duration| {
            exemplars.note(family, label, &BUCKETS, Exemplar { seconds: took.as_secs_f64(), trace, at });
        };
        note(GATEWAY, route, gateway);
        let Some(upstream) = upstream else { return };
        note(UPSTREAM, route, upstream);
        if let Some(merchant) = merchant {
            let told_apart = self.merchants.load();
            let label = if told_apart.contains_key(merchant) { merchant.as_str() } else { ANY_MERCHANT };
            note(MERCHANT, label, upstream);
        }
    }

    /// Every sample as OpenMetrics, with the traces that show them.
    pub fn encode_openmetrics(&self) -> String {
        openmetrics::encode(&self.instruments.gather(), self.instruments.exemplars())
    }

    /// Forgets a merchant that is gone.
    pub(super) fn forget_exemplars(&self, label: &str) {
        self.instruments.exemplars().forget(MERCHANT, label);
    }
}
