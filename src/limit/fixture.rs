//! Agents and merchants for tests: nothing about them matters but what a test asks for.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::id::{AgentId, MerchantId};
use crate::domain::secret::SecretString;
use crate::registry::{
    AcpVariant, Agent, BreakerSettings, Deadlines, Merchant, MerchantEndpoint, MerchantIdempotency,
    OutwardSignature, PurchaseOrders, Registry, SignaturePolicy, SignatureRequired,
};

fn positive(value: u32) -> NonZeroU32 {
    NonZeroU32::new(value).unwrap()
}

pub(crate) fn agent(id: &str, per_second: u32, burst: u32) -> Agent {
    Agent {
        id: AgentId::parse(id).unwrap(),
        credentials: vec![],
        keys: vec![],
        signature: SignaturePolicy {
            required: SignatureRequired::MoneyRoutes,
            profiles: BTreeSet::new(),
            acp: AcpVariant::default(),
        },
        merchants: None,
        token_ceiling: vec![],
        token_life: Duration::from_secs(3_600),
        live_tokens: 10,
        live_tokens_per_session: 2,
        kept_bytes: 1 << 30,
        requests_per_second: positive(per_second),
        request_burst: positive(burst),
        default_version: None,
        traces: false,
    }
}

pub(crate) fn merchant(id: &str, per_second: u32, burst: u32, concurrency: u32) -> Merchant {
    let second = Duration::from_secs(1);
    Merchant {
        id: MerchantId::parse(id).unwrap(),
        allowance_ids: vec![],
        endpoint: MerchantEndpoint {
            base_url: http::Uri::from_static("https://merchant.example"),
            further: vec![],
            public_base_url: None,
            ca_file: None,
            client_certificate: None,
            allow_private_addresses: false,
            allow_tls12: false,
            pool_idle: second,
        },
        hosts: vec![],
        credential: SecretString::new("x".into()),
        redeemers: vec![],
        versions: BTreeSet::new(),
        idempotency: MerchantIdempotency::Keys,
        signature: OutwardSignature::Countersign,
        deadlines: Deadlines { connect: second, first_byte: second, total: second },
        total_max_age: second,
        doubt_grace: second,
        pending_max: second,
        purchase_orders: PurchaseOrders::Refused,
        adoption: BTreeSet::new(),
        retired: false,
        free_orders: false,
        redeem_every_claim: false,
        query_on_get: false,
        breaker: BreakerSettings::default(),
        is_test: false,
        concurrency: positive(concurrency),
        requests_per_second: positive(per_second),
        request_burst: positive(burst),
    }
}

/// Agents `victim` and `other`, merchants `shop` and `slow`.
pub(crate) fn registry(per_second: u32, burst: u32, concurrency: u32) -> Registry {
    let agents = ["victim", "other"].map(|id| agent(id, per_second, burst));
    let merchants = ["shop", "slow"].map(|id| merchant(id, per_second, burst, concurrency));
    Registry::new(agents.into(), merchants.into(), vec![])
}
