//! The goals of the project, each judged by what a run has shown.

use std::collections::BTreeMap;

use super::{Results, RowReport, Sample};
use crate::numbers::median;

/// A goal and how it went.
pub struct Goal {
    /// What is to be reached.
    pub text: &'static str,
    /// What was measured.
    pub measured: String,
    /// How it went.
    pub verdict: Verdict,
}

/// How a goal went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Reached.
    Met,
    /// Not reached.
    Missed,
    /// Nothing measured it.
    Unmeasured,
}

impl Verdict {
    /// The word for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Unmeasured => "not measured",
        }
    }
}

/// A measure and the bound it must keep.
struct Bound {
    name: &'static str,
    measured: Option<f64>,
    most: f64,
    unit: &'static str,
    /// Whether the bound is the least and not the most.
    at_least: bool,
}

const fn at_most(name: &'static str, measured: Option<f64>, most: f64, unit: &'static str) -> Bound {
    Bound { name, measured, most, unit, at_least: false }
}

const fn at_least(name: &'static str, measured: Option<f64>, least: f64, unit: &'static str) -> Bound {
    Bound { name, measured, most: least, unit, at_least: true }
}

fn goal(text: &'static str, bounds: &[Bound]) -> Goal {
    let is_kept = |bound: &Bound| {
        let measured = bound.measured.filter(|measured| measured.is_finite())?;
        Some(if bound.at_least { measured >= bound.most } else { measured <= bound.most })
    };
    let kept: Vec<Option<bool>> = bounds.iter().map(is_kept).collect();
    let verdict = if kept.contains(&Some(false)) {
        Verdict::Missed
    } else if kept.contains(&None) || kept.is_empty() {
        Verdict::Unmeasured
    } else {
        Verdict::Met
    };
    let told = bounds.iter().map(|bound| {
        let measured = bound.measured.filter(|measured| measured.is_finite());
        let measured = measured.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}{}", bound.unit));
        format!("{} {measured}", bound.name).trim().to_owned()
    });
    Goal { text, measured: told.collect::<Vec<_>>().join(", "), verdict }
}

/// Every goal.
pub fn goals(results: &Results) -> Vec<Goal> {
    let rows: BTreeMap<&str, &RowReport> = results.rows.iter().map(|row| (row.id.as_str(), row)).collect();
    let measured = |id: &str| rows.get(id).copied().filter(|row| !row.rounds.is_empty());
    let cpu = |sample: &Sample| sample.cpu;
    let ratio = |id: &str, base: &str| Some(measured(id)?.ratio(measured(base)?, cpu).median);
    let over = |id: &str, base: &str| Some(measured(id)?.difference(measured(base)?, cpu).median);
    let speed =
        |id: &str, base: &str| Some(measured(id)?.ratio(measured(base)?, |sample| sample.throughput).median);
    let tail =
        |id: &str, base: &str| Some(measured(id)?.ratio_at_half(measured(base)?, |sample| sample.p99).median);
    let batches = |id: &str| {
        let batches = measured(id)?.spread(|sample| sample.batches_a_sync).median;
        Some(batches).filter(|batches| *batches > 0.0)
    };
    // The peers that use Redis are compared with Countersign on Redis; where that is not measured,
    // with the embedded store.
    let ours = if measured("redis-0").is_some() { "redis-0" } else { "embedded" };
    let part = |name: &str| results.parts.iter().find(|part| part.name == name).map(|part| part.nanoseconds);
    let canonical = part("canonicalise 1.5 KB");
    let tree = part("canonicalise 1.5 KB, serde_json_canonicalizer");
    let added = |id: &str, of: fn(&Sample) -> f64| {
        let samples = results.added.as_ref()?.samples.get(id)?;
        Some(median(&samples.iter().map(of).collect::<Vec<_>>()))
    };
    let p50 = |id| added(id, |sample| sample.p50);
    let p99 = |id| added(id, |sample| sample.p99);
    let growth = results
        .growth
        .iter()
        .map(|growth| growth.ratio().median)
        .fold(None, |most: Option<f64>, ratio| Some(most.map_or(ratio, |most| most.max(ratio))));
    let looks = results.memory.as_ref().map(|memory| &memory.looks);
    let last = looks.and_then(|looks| looks.last()).map(|(_, megabytes)| *megabytes);
    let middle = looks.and_then(|looks| looks.get(looks.len() / 2)).map(|(_, megabytes)| *megabytes);
    let hostile = results.hostile.as_ref();
    let kept = |of: fn(&Sample) -> f64| {
        let hostile = hostile?;
        let median_of = |samples: &[Sample]| median(&samples.iter().map(of).collect::<Vec<_>>());
        Some(median_of(&hostile.beside) / median_of(&hostile.alone))
    };
    vec![
        goal(
            "all features off: CPU <= 1.15x plain hyper TLS pass-through, <= 1.25x nginx",
            &[
                at_most("hyper", ratio("off", "hyper-get"), 1.15, "x"),
                at_most("nginx", ratio("off", "nginx-get"), 1.25, "x"),
            ],
        ),
        goal("`get` relay: <= 2.0x plain hyper", &[at_most("", ratio("get", "hyper-get"), 2.0, "x")]),
        goal(
            "`complete` on Redis: <= 3.5x plain hyper and <= 65 µs over it",
            &[
                at_most("", ratio("redis-0", "hyper"), 3.5, "x"),
                at_most("over it", over("redis-0", "hyper"), 65.0, " µs"),
            ],
        ),
        goal(
            "`complete` on the embedded store, durable: <= 4.2x, >= 16 transitions a sync",
            &[
                at_most("", ratio("embedded", "hyper"), 4.2, "x"),
                at_least("transitions a sync", batches("embedded"), 16.0, ""),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with Ed25519: >= 3.5x its throughput, <= 0.30x its CPU",
            &[
                at_least("throughput", speed(ours, "lua-ed25519"), 3.5, "x"),
                at_most("CPU", ratio(ours, "lua-ed25519"), 0.30, "x"),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with HMAC only: <= 1.0x its CPU, p99 at half load no worse",
            &[
                at_most("CPU", ratio(ours, "lua-hmac"), 1.0, "x"),
                at_most("p99", tail(ours, "lua-hmac"), 1.0, "x"),
            ],
        ),
        goal(
            "against HAProxy jwt_verify <= 0.75x, Envoy jwt_authn <= 0.55x their CPU",
            &[
                at_most("HAProxy", ratio(ours, "haproxy-jwt"), 0.75, "x"),
                at_most("Envoy", ratio(ours, "envoy-jwt"), 0.55, "x"),
            ],
        ),
        goal(
            "canonicaliser, 1.5 KB: <= 4 µs, <= 0.16x the tree-building crate",
            &[
                at_most("", canonical.map(|value| value / 1000.0), 4.0, " µs"),
                at_most("", canonical.zip(tree).map(|(own, tree)| own / tree), 0.16, "x"),
            ],
        ),
        goal(
            "latency added at 2,000 req/s, embedded: p50 <= 1.0 ms, p99 <= 3x plain nginx's",
            &[
                at_most(
                    "p50 added",
                    p50("embedded").zip(p50("direct")).map(|(own, direct)| own - direct),
                    1.0,
                    " ms",
                ),
                at_most("p99", p99("embedded").zip(p99("nginx")).map(|(own, nginx)| own / nginx), 3.0, "x"),
            ],
        ),
        goal(
            "memory: <= 60 MB after 1,000,000 requests over 10,000 agents and 1,000 connections; flat",
            &[
                at_most("resident", last, 60.0, " MB"),
                at_most("end to middle", last.zip(middle).map(|(last, middle)| last / middle), 1.05, "x"),
            ],
        ),
        goal(
            "hostile traffic at 5x the good: >= 90 % of its throughput, p99 within 2x",
            &[
                at_least("throughput", kept(|sample| sample.throughput), 0.9, "x"),
                at_most("p99", kept(|sample| sample.p99), 2.0, "x"),
            ],
        ),
        goal("growth: CPU a request within 10 %", &[at_most("the worst", growth, 1.10, "x")]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_only_when_every_bound_was_measured_and_kept() {
        let verdict = |bounds: &[Bound]| goal("", bounds).verdict;
        assert_eq!(verdict(&[at_most("", Some(1.0), 1.0, "")]), Verdict::Met);
        assert_eq!(verdict(&[at_least("", Some(0.9), 1.0, "")]), Verdict::Missed);
        assert_eq!(
            verdict(&[at_most("", Some(1.0), 1.0, ""), at_most("", None, 1.0, "")]),
            Verdict::Unmeasured
        );
        assert_eq!(verdict(&[at_most("", Some(2.0), 1.0, ""), at_most("", None, 1.0, "")]), Verdict::Missed);
        assert_eq!(verdict(&[at_most("", Some(f64::NAN), 1.0, "")]), Verdict::Unmeasured);
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        assert!(goals(&Results::default()).iter().all(|goal| goal.verdict == Verdict::Unmeasured));
    }
}
