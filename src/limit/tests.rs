//! Who is charged for what, and that a flood harms only whoever floods.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::fixture::{agent, merchant, registry};
use super::*;

const GUEST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const THIEF: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

fn limits(settings: Settings) -> (Limits, ManualLimitClock) {
    let (clock, hand) = LimitClock::manual();
    hand.advance(Duration::from_secs(1_000));
    (Limits::with_clock(settings, &registry(10, 20, 8), clock), hand)
}

fn burst_of(settings: &Settings) -> u32 {
    settings.failed_authentication_burst.get()
}

#[test]
fn success_is_never_charged_as_a_failure_and_failure_is_charged_in_full() {
    let settings = Settings::default();
    let (limits, hand) = limits(settings.clone());
    for _ in 0..1_000 {
        limits.address(GUEST).unwrap();
    }
    for _ in 0..burst_of(&settings) {
        limits.failed_authentication(GUEST).unwrap();
    }
    let limited = limits.failed_authentication(GUEST).unwrap_err();
    assert_eq!((limited.scope, limited.retry_after_seconds), (LimitScope::FailedAuthentication, 1));
    limits.failed_authentication(THIEF).unwrap();
    // Who is known behind the same address is not asked.
    limits.address(GUEST).unwrap();

    // One failure is forgiven each second, and only one.
    hand.advance(Duration::from_secs(1));
    limits.failed_authentication(GUEST).unwrap();
    limits.failed_authentication(GUEST).unwrap_err();
}

#[test]
fn an_address_sends_no_more_than_its_rate() {
    let settings = Settings {
        address_requests_per_second: positive(5),
        address_request_burst: positive(10),
        ..Settings::default()
    };
    let (limits, hand) = limits(settings);
    assert_eq!((0..100).filter(|_| limits.address(GUEST).is_ok()).count(), 10);
    assert_eq!(limits.address(GUEST).unwrap_err().scope, LimitScope::Address);
    hand.advance(Duration::from_secs(1));
    assert_eq!((0..100).filter(|_| limits.address(GUEST).is_ok()).count(), 5);
}

#[test]
fn a_stolen_credential_without_its_key_exhausts_only_itself() {
    let (limits, _hand) = limits(Settings::default());
    let victim = agent("victim", 10, 20);
    let mut verified = 0;
    while limits.signature(&victim.id, THIEF).is_ok() {
        limits.failed_signature(&victim.id, THIEF);
        verified += 1;
        assert!(verified < 1_000, "the thief makes us verify without bound");
    }
    // The owner, elsewhere, has its whole bucket, and so has every other agent at the thief's address.
    limits.signature(&victim.id, GUEST).unwrap();
    limits.signature(&agent("other", 10, 20).id, THIEF).unwrap();
    assert_eq!(limits.agent(&victim).unwrap().remaining, 19);
}

#[test]
fn agents_merchants_and_redeemers_have_buckets_of_their_own() {
    let (limits, _hand) = limits(Settings::default());
    let (victim, other, shop) =
        (agent("victim", 10, 20), agent("other", 10, 20), merchant("shop", 10, 20, 8));
    for _ in 0..20 {
        limits.agent(&victim).unwrap();
        limits.merchant(&shop).unwrap();
    }
    assert_eq!(limits.agent(&victim).unwrap_err().scope, LimitScope::Agent);
    assert_eq!(limits.merchant(&shop).unwrap_err().scope, LimitScope::Merchant);
    assert_eq!(limits.agent(&other).unwrap().remaining, 19);
    assert_eq!(limits.redeem(&shop).unwrap().remaining, 19);
}

#[test]
fn a_party_of_another_configuration_is_refused_not_unlimited() {
    let (limits, _hand) = limits(Settings::default());
    assert_eq!(limits.agent(&agent("unknown", 10, 20)).unwrap_err().retry_after_seconds, 1);
}

#[test]
fn a_reload_refills_nobody_whose_rate_is_unchanged() {
    let (limits, _hand) = limits(Settings::default());
    let (victim, shop) = (agent("victim", 10, 20), merchant("shop", 10, 20, 8));
    limits.agent(&victim).unwrap();
    limits.merchant(&shop).unwrap();
    (0..burst_of(&Settings::default())).for_each(|_| limits.failed_authentication(THIEF).map(drop).unwrap());

    let same = limits.reloaded(Settings::default(), &registry(10, 20, 8));
    assert_eq!(same.agent(&victim).unwrap().remaining, 18);
    assert_eq!(same.merchant(&shop).unwrap().remaining, 18);
    same.failed_authentication(THIEF).unwrap_err();

    let faster = same.reloaded(Settings::default(), &registry(10, 50, 8));
    assert_eq!(faster.agent(&victim).unwrap().remaining, 49);
}

#[test]
fn memory_stays_bounded_under_a_million_addresses_and_nobodys_state_is_lost() {
    let tracked = 4_096;
    let settings = Settings { tracked_addresses: positive(tracked), ..Settings::default() };
    let (limits, hand) = limits(settings.clone());
    let victim = agent("victim", 10, 20);
    for _ in 1..burst_of(&settings) {
        limits.failed_authentication(THIEF).unwrap();
    }
    for i in 0..1_000_000u32 {
        // Spread over all of the address space, the thief's own network included.
        let flood = IpAddr::V4(Ipv4Addr::from(i.wrapping_mul(2_654_435_761)));
        let _ = limits.address(flood);
        let _ = limits.failed_authentication(flood);
        if i % 16 == 0 {
            limits.failed_signature(&victim.id, flood);
        }
    }
    assert!(limits.tracked_addresses() <= 4_096, "{}", limits.tracked_addresses());
    // The thief has its own one failure left: neither a new bucket nor the group's empty one.
    limits.failed_authentication(THIEF).unwrap();
    assert_eq!(limits.failed_authentication(THIEF).unwrap_err().scope, LimitScope::FailedAuthentication);

    // What is as good as new makes room again: a guest no longer shares its neighbour's fate.
    hand.advance(Duration::from_secs(3_600));
    (0..burst_of(&settings)).for_each(|_| limits.failed_authentication(NEIGHBOUR).map(drop).unwrap());
    limits.failed_authentication(NEIGHBOUR).unwrap_err();
    limits.failed_authentication(GUEST).unwrap();
}

#[test]
fn a_flood_from_one_network_leaves_other_networks_alone() {
    let settings = Settings { tracked_addresses: positive(256), ..Settings::default() };
    let (limits, _hand) = limits(settings.clone());
    let flooder = |host: u16, n: u32| {
        IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64 | u128::from(host)))
    };
    for n in 0..100_000 {
        let _ = limits.failed_authentication(flooder(1, n));
    }
    // Within the flooding network newcomers now share a bucket that is empty.
    let refused = limits.failed_authentication(flooder(2, 2_000_000)).unwrap_err();
    assert_eq!(refused.scope, LimitScope::FailedAuthentication);
    // Elsewhere there is room, or at worst a bucket shared with other networks than that one.
    let elsewhere = |n| IpAddr::V4(Ipv4Addr::new(10, n, 0, 1));
    let spared = (0..200u8).filter(|n| limits.failed_authentication(elsewhere(*n)).is_ok());
    assert!(spared.count() >= 198);
}

#[test]
fn more_tracking_is_not_paid_for_by_looking() {
    let (limits, _hand) = limits(Settings::default());
    let victim = agent("victim", 10, 20);
    for n in 0..1_000 {
        limits.signature(&victim.id, IpAddr::V4(Ipv4Addr::from(n))).unwrap();
    }
    assert_eq!(limits.tracked_addresses(), 0);
}

#[test]
fn headers_read_as_the_draft_writes_them() {
    let quota =
        Quota { scope: LimitScope::Agent, limit: 100, window_seconds: 60, remaining: 50, reset_seconds: 30 };
    let (mut limit, mut policy) = (String::new(), String::new());
    quota.append_rate_limit(&mut limit).unwrap();
    quota.append_policy(&mut policy).unwrap();
    assert_eq!((limit.as_str(), policy.as_str()), ("\"agent\";r=50;t=30", "\"agent\";q=100;w=60"));
}

#[test]
fn every_scope_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = LimitScope::ALL.iter().map(|scope| scope.as_str()).collect();
    assert_eq!(names.len(), LimitScope::ALL.len());
}

/// A store that all replicas share, which counts what each party was charged.
struct Charged(parking_lot::Mutex<std::collections::HashMap<String, u32>>);

impl shared::SharedLimits for Charged {
    fn take<'a>(
        &'a self,
        limit: &'a shared::SharedLimit,
        _: u32,
    ) -> crate::records::BoxFuture<'a, Option<shared::Taken>> {
        let charged =
            *self.0.lock().entry(limit.name.clone()).and_modify(|charged| *charged += 1).or_insert(1);
        // Less than one replica lets an agent have.
        let granted = u32::from(!limit.name.starts_with("agent") || charged <= 5);
        Box::pin(std::future::ready(Some(shared::Taken {
            granted,
            remaining: 0,
            retry_after: Duration::from_secs(1),
        })))
    }
}

#[tokio::test]
async fn what_an_agents_own_limit_refuses_is_charged_to_no_merchant_here_or_anywhere() {
    let store = std::sync::Arc::new(Charged(parking_lot::Mutex::default()));
    let (limits, _hand) = limits(Settings::default());
    let limits = limits.shared_through(Some(store.clone()));
    let (victim, shop) = (agent("victim", 10, 20), merchant("shop", 10, 20, 8));
    let mut admitted = 0;
    for _ in 0..40 {
        match limits.admit(&victim, true, Some(&shop)).await {
            Ok(_) => admitted += 1,
            Err(limited) => assert_eq!(limited.scope, LimitScope::Agent),
        }
    }
    assert_eq!(admitted, 5);
    assert_eq!(store.0.lock().get("merchant/shop"), Some(&5));
    assert_eq!(limits.merchant(&shop).unwrap().remaining, 14);
    // What it did not sign is counted apart.
    assert_eq!(limits.admit(&victim, false, None).await.unwrap().scope, LimitScope::AgentUnsigned);
}
