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

/// What a run measured, as goals ask for it; `None` for what it did not.
struct Found<'a> {
    results: &'a Results,
    rows: BTreeMap<&'a str, &'a RowReport>,
}

impl<'a> Found<'a> {
    fn new(results: &'a Results) -> Self {
        let rows = results.rows.iter().filter(|row| !row.rounds.is_empty());
        Self { results, rows: rows.map(|row| (row.id.as_str(), row)).collect() }
    }

    fn pair(&self, id: &str, base: &str) -> Option<(&RowReport, &RowReport)> {
        Some((self.rows.get(id)?, self.rows.get(base)?))
    }

    /// CPU of one proxy against that of another.
    fn cpu(&self, id: &str, base: &str) -> Option<f64> {
        self.pair(id, base).map(|(own, base)| own.ratio(base, |sample| sample.cpu).median)
    }

    /// The same with what works beside either.
    fn both(&self, id: &str, base: &str) -> Option<f64> {
        self.pair(id, base).map(|(own, base)| own.ratio(base, Sample::both).median)
    }

    fn over(&self, id: &str, base: &str) -> Option<f64> {
        self.pair(id, base).map(|(own, base)| own.difference(base, |sample| sample.cpu).median)
    }

    fn speed(&self, id: &str, base: &str) -> Option<f64> {
        self.pair(id, base).map(|(own, base)| own.ratio(base, |sample| sample.throughput).median)
    }

    fn tail(&self, id: &str, base: &str) -> Option<f64> {
        self.pair(id, base).map(|(own, base)| own.ratio_at_half(base, |sample| sample.p99).median)
    }

    fn batches_a_sync(&self, id: &str) -> Option<f64> {
        let batches = self.rows.get(id)?.spread(|sample| sample.batches_a_sync).median;
        Some(batches).filter(|batches| *batches > 0.0)
    }

    /// The peers that use Redis are compared with Countersign on Redis; where that is not measured,
    /// with the embedded store.
    fn ours(&self) -> &'static str {
        if self.rows.contains_key("redis-0") { "redis-0" } else { "embedded" }
    }

    /// Something of the samples at a fixed rate of arrivals.
    fn at_rate(&self, id: &str, of: fn(&Sample) -> f64) -> Option<f64> {
        let samples = self.results.added.as_ref()?.samples.get(id)?;
        Some(median(&samples.iter().map(of).collect::<Vec<_>>()))
    }

    /// How much more of it than straight to the merchant.
    fn added(&self, id: &str, of: fn(&Sample) -> f64) -> Option<f64> {
        Some(self.at_rate(id, of)? - self.at_rate("direct", of)?)
    }

    /// Megabytes at the end, and how they compare with those at half of the requests.
    fn memory(&self) -> (Option<f64>, Option<f64>) {
        let looks = self.results.memory.as_ref().map(|memory| &memory.looks);
        let at = |place: usize| looks?.get(place).map(|(_, megabytes)| *megabytes);
        let count = looks.map_or(0, Vec::len);
        let (last, middle) = (at(count.saturating_sub(1)), at(count / 2));
        (last, last.zip(middle).map(|(last, middle)| last / middle))
    }
}

/// What is to be reached on the way to the goals, and how far from an earlier binary.
pub fn milestones(results: &Results) -> Vec<Goal> {
    let found = Found::new(results);
    let ours = found.ours();
    let (resident, growth) = found.memory();
    vec![
        goal(
            "`complete`, embedded, durable, against the earlier binary: <= 0.60x its CPU, >= 24 transitions a sync",
            &[
                at_most("", found.cpu("embedded", "before-embedded"), 0.60, "x"),
                at_least("transitions a sync", found.batches_a_sync("embedded"), 24.0, ""),
            ],
        ),
        goal(
            "`complete`, Redis, against the earlier binary: <= 0.60x its CPU, <= 0.60x with Redis's",
            &[
                at_most("", found.cpu("redis-0", "before-redis-0"), 0.60, "x"),
                at_most("with Redis", found.both("redis-0", "before-redis-0"), 0.60, "x"),
            ],
        ),
        goal(
            "`get` relay, and all features off, against the earlier binary: <= 0.70x its CPU",
            &[
                at_most("relay", found.cpu("get", "before-get"), 0.70, "x"),
                at_most("off", found.cpu("off", "before-off"), 0.70, "x"),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with Ed25519: >= 1.6x its throughput, <= 0.55x its CPU, both with Redis's",
            &[
                at_least("throughput", found.speed(ours, "lua-ed25519"), 1.6, "x"),
                at_most("CPU", found.both(ours, "lua-ed25519"), 0.55, "x"),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with HMAC only: <= 2.0x its CPU, p99 at half load no worse",
            &[
                at_most("CPU", found.cpu(ours, "lua-hmac"), 2.0, "x"),
                at_most("p99", found.tail(ours, "lua-hmac"), 1.0, "x"),
            ],
        ),
        goal(
            "latency added at 2,000 req/s, embedded: p50 <= 1.5 ms, p99 <= 15 ms",
            &[
                at_most("p50", found.added("embedded", |sample| sample.p50), 1.5, " ms"),
                at_most("p99", found.added("embedded", |sample| sample.p99), 15.0, " ms"),
            ],
        ),
        goal(
            "memory: <= 140 MB after 1,000,000 requests over 10,000 agents and 1,000 connections; flat",
            &[at_most("resident", resident, 140.0, " MB"), at_most("end to middle", growth, 1.05, "x")],
        ),
    ]
}

/// Every goal.
pub fn goals(results: &Results) -> Vec<Goal> {
    let found = Found::new(results);
    let ours = found.ours();
    let part = |name: &str| results.parts.iter().find(|part| part.name == name).map(|part| part.nanoseconds);
    let canonical = part("canonicalise 1.5 KB");
    let tree = part("canonicalise 1.5 KB, serde_json_canonicalizer");
    let p99 = |id| found.at_rate(id, |sample| sample.p99);
    let growth = results
        .growth
        .iter()
        .map(|growth| growth.ratio().median)
        .fold(None, |most: Option<f64>, ratio| Some(most.map_or(ratio, |most| most.max(ratio))));
    let (resident, end_to_middle) = found.memory();
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
                at_most("hyper", found.cpu("off", "hyper-get"), 1.15, "x"),
                at_most("nginx", found.cpu("off", "nginx-get"), 1.25, "x"),
            ],
        ),
        goal("`get` relay: <= 2.0x plain hyper", &[at_most("", found.cpu("get", "hyper-get"), 2.0, "x")]),
        goal(
            "`complete` on Redis: <= 3.5x plain hyper and <= 65 µs over it",
            &[
                at_most("", found.cpu("redis-0", "hyper"), 3.5, "x"),
                at_most("over it", found.over("redis-0", "hyper"), 65.0, " µs"),
            ],
        ),
        goal(
            "`complete` on the embedded store, durable: <= 4.2x, >= 16 transitions a sync",
            &[
                at_most("", found.cpu("embedded", "hyper"), 4.2, "x"),
                at_least("transitions a sync", found.batches_a_sync("embedded"), 16.0, ""),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with Ed25519: >= 3.5x its throughput, <= 0.30x its CPU",
            &[
                at_least("throughput", found.speed(ours, "lua-ed25519"), 3.5, "x"),
                at_most("CPU", found.cpu(ours, "lua-ed25519"), 0.30, "x"),
            ],
        ),
        goal(
            "against nginx + Lua + Redis with HMAC only: <= 1.0x its CPU, p99 at half load no worse",
            &[
                at_most("CPU", found.cpu(ours, "lua-hmac"), 1.0, "x"),
                at_most("p99", found.tail(ours, "lua-hmac"), 1.0, "x"),
            ],
        ),
        goal(
            "against HAProxy jwt_verify <= 0.75x, Envoy jwt_authn <= 0.55x their CPU",
            &[
                at_most("HAProxy", found.cpu(ours, "haproxy-jwt"), 0.75, "x"),
                at_most("Envoy", found.cpu(ours, "envoy-jwt"), 0.55, "x"),
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
                at_most("p50 added", found.added("embedded", |sample| sample.p50), 1.0, " ms"),
                at_most("p99", p99("embedded").zip(p99("nginx")).map(|(own, nginx)| own / nginx), 3.0, "x"),
            ],
        ),
        goal(
            "memory: <= 60 MB after 1,000,000 requests over 10,000 agents and 1,000 connections; flat",
            &[at_most("resident", resident, 60.0, " MB"), at_most("end to middle", end_to_middle, 1.05, "x")],
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
        let nothing = Results::default();
        let every = goals(&nothing).into_iter().chain(milestones(&nothing));
        assert!(every.into_iter().all(|goal| goal.verdict == Verdict::Unmeasured));
    }

    #[test]
    fn progress_is_the_ratio_to_the_earlier_binary_with_what_works_beside_either() {
        let sample = |cpu, beside| Sample {
            cpu,
            beside,
            throughput: 1.0,
            p50: 1.0,
            p99: 1.0,
            megabytes: 1.0,
            batches_a_sync: 0.0,
        };
        let row = |id: &str, rounds| RowReport { rounds, ..RowReport::new(id, id, "hyper") };
        let rows = vec![
            row("redis-0", vec![sample(50.0, 40.0), sample(60.0, 40.0)]),
            row("before-redis-0", vec![sample(100.0, 50.0), sample(120.0, 130.0)]),
        ];
        let results = Results { rows, ..Results::default() };
        let found = Found::new(&results);
        assert_eq!(found.cpu("redis-0", "before-redis-0"), Some(0.5));
        assert_eq!(found.both("redis-0", "before-redis-0"), Some(0.5));
        assert_eq!(found.cpu("embedded", "before-embedded"), None);
        let milestone = milestones(&results).into_iter().find(|goal| goal.text.contains("complete`, Redis"));
        assert_eq!(milestone.unwrap().verdict, Verdict::Met);
    }
}
