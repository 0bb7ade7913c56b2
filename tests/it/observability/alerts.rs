//! Every alert fires when it should and clears by itself, in Prometheus' own unit tests of rules.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{promtool, shipped};

/// What a Prometheus saw, and what it then says.
struct Case {
    alert: &'static str,
    /// The time between two scrapes, and between two looks at the rules.
    interval: &'static str,
    /// Series, and their values in promtool's notation.
    series: &'static [(&'static str, &'static str)],
    /// When the alert is looked at, and whether it fires then.
    looks: &'static [(&'static str, bool)],
}

/// Something bad between the tenth and the fortieth minute; looked at before, within and long after.
const IN_HALF_AN_HOUR: &[(&str, bool)] = &[("9m", false), ("35m", true), ("2h", false)];
/// A gauge that is too high in that half hour.
macro_rules! high {
    ($value:literal) => {
        concat!("0x9 ", $value, "x29 0x120")
    };
}
/// A counter that goes up by this much each minute in that half hour.
macro_rules! rising {
    ($step:literal, $end:literal) => {
        concat!("0x9 0+", $step, "x30 ", $end, "x120")
    };
}

const CASES: [Case; 39] = [
    Case {
        alert: "CountersignCompletesFail",
        interval: "1m",
        series: &[
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="2xx"}"#,
                "0+100x400",
            ),
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="5xx"}"#,
                "0x29 0+10x30 300x400",
            ),
        ],
        looks: &[("29m", false), ("55m", true), ("5h", false)],
    },
    // One in a hundred is not a night's sleep worth while the budget of a month holds for days.
    Case {
        alert: "CountersignCompletesFail",
        interval: "1m",
        series: &[
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="2xx"}"#,
                "0+1000x400",
            ),
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="5xx"}"#,
                "0+4x400",
            ),
        ],
        looks: &[("30m", false), ("6h", false)],
    },
    // A shop that sells one thing a minute loses one answer.
    Case {
        alert: "CountersignCompletesFail",
        interval: "1m",
        series: &[
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="2xx"}"#,
                "0+1x180",
            ),
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="5xx"}"#,
                "0x29 1x180",
            ),
        ],
        looks: &[("31m", false), ("34m", false), ("1h", false)],
    },
    Case {
        alert: "CountersignCompletesFailSlowly",
        interval: "5m",
        series: &[
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="2xx"}"#,
                "0+1000x900",
            ),
            (
                r#"countersign_requests_total{job="countersign",route="checkout_complete",status="5xx"}"#,
                "0x20 0+5x300 1500x600",
            ),
        ],
        looks: &[("1h", false), ("25h", true), ("60h", false)],
    },
    Case {
        alert: "CountersignClaimsInDoubt",
        interval: "1m",
        series: &[(r#"countersign_unresolved_claims{job="countersign",kind="in_doubt"}"#, high!("21"))],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignClaimLongInDoubt",
        interval: "1m",
        series: &[(
            r#"countersign_unresolved_oldest_seconds{job="countersign",kind="in_doubt"}"#,
            high!("3601"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignPendingTooLong",
        interval: "1m",
        series: &[(
            r#"countersign_unresolved_oldest_seconds{job="countersign",kind="pending"}"#,
            high!("3601"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignOvercharge",
        interval: "1m",
        series: &[(r#"countersign_overcharges_total{job="countersign"}"#, "0x9 1x120")],
        looks: &[("9m", false), ("11m", true), ("1h", false)],
    },
    Case {
        alert: "CountersignOwnershipConflict",
        interval: "1m",
        series: &[(r#"countersign_ownership_conflicts_total{job="countersign"}"#, "0x9 1x120")],
        looks: &[("9m", false), ("11m", true), ("1h", false)],
    },
    // The series of a label begins with its first count, which is no increase of anything.
    Case {
        alert: "CountersignSecondAnswer",
        interval: "1m",
        series: &[(r#"countersign_second_answers_total{job="countersign",what="order"}"#, "_x10 1x120")],
        looks: &[("9m", false), ("11m", true), ("1h", false)],
    },
    Case {
        alert: "CountersignSecondAnswer",
        interval: "1m",
        series: &[(r#"countersign_second_answers_total{job="countersign",what="answer"}"#, "1x40 2x120")],
        looks: &[("38m", false), ("42m", true), ("2h", false)],
    },
    Case {
        alert: "CountersignStoreFails",
        interval: "1m",
        series: &[
            (
                r#"countersign_store_operations_total{job="countersign",engine="redis",operation="commit",outcome="unacknowledged"}"#,
                rising!("6", "180"),
            ),
            (
                r#"countersign_store_operations_total{job="countersign",engine="redis",operation="commit",outcome="conflict"}"#,
                "0+50x200",
            ),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignStoreSlow",
        interval: "1m",
        series: &[
            (
                r#"countersign_store_operation_seconds_bucket{job="countersign",engine="embedded",operation="commit",le="0.25"}"#,
                "0+100x9 910+50x30 2510+100x120",
            ),
            (
                r#"countersign_store_operation_seconds_bucket{job="countersign",engine="embedded",operation="commit",le="1"}"#,
                "0+100x200",
            ),
            (
                r#"countersign_store_operation_seconds_bucket{job="countersign",engine="embedded",operation="commit",le="+Inf"}"#,
                "0+100x200",
            ),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignDiskShort",
        interval: "1m",
        series: &[
            (r#"countersign_disk_free_bytes{job="countersign",directory="store"}"#, "2000x9 999x30 2000x120"),
            (r#"countersign_disk_min_free_bytes{job="countersign",directory="store"}"#, "500x200"),
            (r#"countersign_disk_free_bytes{job="countersign",directory="epochs"}"#, "900x200"),
            (r#"countersign_disk_min_free_bytes{job="countersign",directory="epochs"}"#, "16x200"),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignMerchantFails",
        interval: "1m",
        series: &[
            (
                r#"countersign_merchant_requests_total{job="countersign",merchant="shoes",status="2xx"}"#,
                "0+60x200",
            ),
            (
                r#"countersign_merchant_requests_total{job="countersign",merchant="shoes",status="5xx"}"#,
                rising!("30", "900"),
            ),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignMerchantUnreachable",
        interval: "1m",
        series: &[(
            r#"countersign_upstream_failures_total{job="countersign",reason="connect_timeout"}"#,
            rising!("30", "900"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignCredentialRefused",
        interval: "1m",
        series: &[(
            r#"countersign_upstream_failures_total{job="countersign",reason="credential_refused"}"#,
            rising!("1", "30"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignMerchantFull",
        interval: "1m",
        series: &[(
            r#"countersign_limited_total{job="countersign",scope="merchant-concurrency"}"#,
            rising!("30", "900"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignAgentKeepsTooMuch",
        interval: "1m",
        series: &[(
            r#"countersign_limited_total{job="countersign",scope="agent-kept-bytes"}"#,
            rising!("30", "900"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignClocksDiffer",
        interval: "1m",
        series: &[(
            r#"countersign_refusals_total{job="countersign",reason="signature_outside_window"}"#,
            rising!("30", "900"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignFraudDenies",
        interval: "1m",
        series: &[
            (
                r#"countersign_fraud_total{job="countersign",rule="card_testing",verdict="deny",mode="enforced"}"#,
                rising!("30", "900"),
            ),
            (
                r#"countersign_fraud_total{job="countersign",rule="declines",verdict="deny",mode="shadow"}"#,
                "0+100x200",
            ),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignStrangersTry",
        interval: "1m",
        series: &[(
            r#"countersign_limited_total{job="countersign",scope="failed-authentication"}"#,
            rising!("120", "3600"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignDown",
        interval: "1m",
        series: &[(r#"up{job="countersign",instance="a"}"#, "1x9 0x30 1x120")],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignReplicaDown",
        interval: "1m",
        series: &[
            (r#"up{job="countersign-admin",instance="a"}"#, "1x9 0x30 1x120"),
            (r#"up{job="countersign-admin",instance="b"}"#, "1x200"),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignSlow",
        interval: "1m",
        series: &[
            (
                r#"countersign_gateway_seconds_bucket{job="countersign",route="checkout_complete",le="0.5"}"#,
                "0+100x9 910+50x30 2510+100x120",
            ),
            (
                r#"countersign_gateway_seconds_bucket{job="countersign",route="checkout_complete",le="1"}"#,
                "0+100x200",
            ),
            (
                r#"countersign_gateway_seconds_bucket{job="countersign",route="checkout_complete",le="+Inf"}"#,
                "0+100x200",
            ),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignConnectionsRefused",
        interval: "1m",
        series: &[
            (
                r#"countersign_connections_refused_total{job="countersign",reason="all"}"#,
                rising!("30", "900"),
            ),
            (r#"countersign_connections_refused_total{job="countersign",reason="rate"}"#, "0+100x200"),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignLogLinesLost",
        interval: "1m",
        series: &[(r#"countersign_log_lines_dropped_total{job="countersign"}"#, rising!("30", "900"))],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignSpansLost",
        interval: "1m",
        series: &[(r#"countersign_spans_total{job="countersign",outcome="lost"}"#, rising!("30", "900"))],
        looks: IN_HALF_AN_HOUR,
    },
    // Ends after twelve days, then after a hundred.
    Case {
        alert: "CountersignCertificateEndsSoon",
        interval: "1m",
        series: &[(
            r#"countersign_certificate_expiry_timestamp_seconds{job="countersign",use="listener",merchant=""}"#,
            "1036800x40 8640000x120",
        )],
        looks: &[("30m", true), ("1h", false)],
    },
    // A day and a half before the end, then renewed.
    Case {
        alert: "CountersignCertificateEnds",
        interval: "1m",
        series: &[(
            r#"countersign_certificate_expiry_timestamp_seconds{job="countersign",use="client",merchant="shoes"}"#,
            "129600x40 8640000x120",
        )],
        looks: &[("30m", true), ("1h", false)],
    },
    Case {
        alert: "CountersignVersionsDiffer",
        interval: "1m",
        series: &[
            (r#"countersign_build_info{job="countersign",instance="a",version="1.0.0"}"#, "1x300"),
            (r#"countersign_build_info{job="countersign",instance="b",version="1.1.0"}"#, "_x9 1x90 _x200"),
        ],
        looks: &[("50m", false), ("90m", true), ("3h", false)],
    },
    Case {
        alert: "CountersignConfigNotTaken",
        interval: "1m",
        series: &[
            (
                r#"countersign_config_reloads_total{job="countersign",outcome="config_invalid"}"#,
                rising!("1", "30"),
            ),
            (r#"countersign_config_reloads_total{job="countersign",outcome="applied"}"#, "0+1x200"),
        ],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignConfigsDiffer",
        interval: "1m",
        series: &[
            (r#"countersign_config_info{job="countersign",instance="a",digest="0a"}"#, "1x300"),
            (r#"countersign_config_info{job="countersign",instance="b",digest="0b"}"#, "_x9 1x90 _x200"),
        ],
        looks: &[("50m", false), ("90m", true), ("3h", false)],
    },
    // Read each minute of an hour, then no more for half an hour.
    Case {
        alert: "CountersignMerchantUnavailable",
        interval: "1m",
        series: &[(r#"countersign_breaker_state{job="countersign",merchant="shoes"}"#, high!("2"))],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignMerchantFlaps",
        interval: "1m",
        series: &[(
            r#"countersign_breaker_openings_total{job="countersign",merchant="shoes",cause="unanswered"}"#,
            rising!("1", "29"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignSecurityCodesLost",
        interval: "1m",
        series: &[(r#"countersign_epoch_node_restarts_total{job="countersign"}"#, rising!("1", "30"))],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignSecurityCodesRefused",
        interval: "1m",
        series: &[(
            r#"countersign_refusals_total{job="countersign",reason="security_codes_unavailable"}"#,
            rising!("5", "150"),
        )],
        looks: IN_HALF_AN_HOUR,
    },
    Case {
        alert: "CountersignSuspensionsUnknown",
        interval: "1m",
        series: &[(
            r#"countersign_suspensions_read_timestamp_seconds{job="countersign",instance="a"}"#,
            "0+60x60 3600x29 5460+60x60",
        )],
        looks: &[("50m", false), ("80m", true), ("2h", false)],
    },
    Case {
        alert: "CountersignSuspended",
        interval: "5m",
        series: &[(r#"countersign_suspensions{job="countersign"}"#, "0x9 1x400 0x100")],
        looks: &[("20h", false), ("30h", true), ("38h", false)],
    },
];

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

/// The cases as promtool reads them.
fn written(cases: &[&Case], rules: &str) -> String {
    let mut text = format!("rule_files: [{}]\ntests:\n", quoted(rules));
    for Case { alert, interval, series, looks } in cases {
        let _ = writeln!(text, "  - interval: {interval}\n    name: {alert}\n    input_series:");
        for (name, values) in *series {
            let _ = writeln!(text, "      - {{series: {}, values: {}}}", quoted(name), quoted(values));
        }
        text.push_str("    promql_expr_test:\n");
        for (at, fires) in *looks {
            let expression = format!(r#"count(ALERTS{{alertname="{alert}", alertstate="firing"}}) > bool 0"#);
            let samples = if *fires { "[{labels: '{}', value: 1}]" } else { "[]" };
            let _ = writeln!(
                text,
                "      - {{expr: {}, eval_time: {at}, exp_samples: {samples}}}",
                quoted(&expression)
            );
        }
    }
    text
}

#[test]
fn every_alert_fires_and_clears() {
    let rules = shipped("rules.yaml");
    promtool(&["check", "rules", rules.to_str().unwrap()]);
    let text = std::fs::read_to_string(&rules).unwrap();
    let alerts: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim_start().strip_prefix("- alert: ")).collect();
    let cases: Vec<&Case> = CASES.iter().collect();
    let told = |fires: bool| -> BTreeSet<&str> {
        let tells = |case: &&&Case| {
            let end =
                if fires { case.looks.iter().any(|look| look.1) } else { !case.looks.last().unwrap().1 };
            end && case.looks.iter().any(|look| look.1)
        };
        cases.iter().filter(tells).map(|case| case.alert).collect()
    };
    assert_eq!(told(true), alerts, "alerts that fire in a case, and alerts");
    assert_eq!(told(false), alerts, "alerts that clear in a case, and alerts");

    let directory = tempfile::tempdir().unwrap();
    let tests = directory.path().join("alerts.yaml");
    std::fs::write(&tests, written(&cases, rules.to_str().unwrap())).unwrap();
    promtool(&["test", "rules", tests.to_str().unwrap()]);
}
