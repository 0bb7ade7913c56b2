//! Results as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::{Added, Goal, Results, RowReport, Sample, Spread, goals, milestones};

/// Between these lines a document holds what a run has shown.
const BEGIN: &str = "<!-- results: written by `loadtest compare --update` -->";
const END: &str = "<!-- end of results -->";

/// Puts results into a document, in place of the earlier ones.
///
/// # Errors
/// When the document has no place for them.
pub fn splice(document: &str, results: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).with_context(|| format!("no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no line {END}"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n{END}{after}", results.trim_end()))
}

/// Results as Markdown.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    let machine = &results.machine;
    let _ = writeln!(
        out,
        "{}, {} cores shared by load generator, proxy, merchant and Redis; Linux {}; {}. {}.\n\n`{}`\n",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.date,
        machine.versions.join(", "),
        results.command
    );
    about_goals(&mut out, "Goals", &goals(results));
    about_goals(&mut out, "Milestones", &milestones(results));
    about_rows(&mut out, results);
    if let Some(added) = &results.added {
        let _ = writeln!(out, "### Latency at {:.0} req/s, open loop\n", added.rate);
        about_added(&mut out, added);
    }
    about_pinned(&mut out, results);
    about_growth(&mut out, results);
    about_memory(&mut out, results);
    about_hostile(&mut out, results);
    about_parts(&mut out, results);
    out
}

fn about_goals(out: &mut String, title: &str, goals: &[Goal]) {
    let _ = writeln!(out, "### {title}\n\n| Goal | Measured | |\n|---|---|---|");
    for goal in goals {
        let _ = writeln!(out, "| {} | {} | {} |", goal.text, goal.measured, goal.verdict.as_str());
    }
    out.push('\n');
}

/// A median, its quartiles behind it.
fn told(spread: Spread, digits: usize) -> String {
    if spread.median.is_finite() {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", spread.median, spread.low, spread.high)
    } else {
        "–".to_owned()
    }
}

fn about_rows(out: &mut String, results: &Results) {
    if results.rows.is_empty() {
        return;
    }
    out.push_str(
        "### Beside the others\n\nMedians over the rounds, quartiles in brackets. The ratio is CPU against the plain pass-through in the same round; a checkout's is against four of its requests.\n\n",
    );
    rows(out, &results.rows);
    about_before(out, &results.rows);
    about_floor(out, results, &by_id(&results.rows));
}

fn by_id(rows: &[RowReport]) -> BTreeMap<&str, &RowReport> {
    rows.iter().map(|row| (row.id.as_str(), row)).collect()
}

fn rows(out: &mut String, rows: &[RowReport]) {
    out.push_str(
        "| Proxy | CPU ratio | CPU µs/request | beside it, µs | both, µs | req/s | p50 / p99 ms at half load | MB |\n|---|---|---|---|---|---|---|---|\n",
    );
    let by_id = by_id(rows);
    for row in rows {
        if let Some(reason) = &row.skipped {
            let reason = reason.replace('\n', " ").replace('|', "/");
            let _ = writeln!(out, "| {} | {reason} | | | | | | |", row.title);
            continue;
        }
        let ratio = by_id.get(row.base.as_str()).map(|base| row.price(base, |sample| sample.cpu));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.1} | {} | {:.0} | {:.2} / {:.2} | {:.0} |",
            row.title,
            ratio.map_or_else(|| "–".to_owned(), |ratio| told(ratio, 2)),
            told(row.spread(|sample| sample.cpu), 1),
            row.spread(|sample| sample.beside).median,
            told(row.spread(Sample::both), 1),
            row.spread(|sample| sample.throughput).median,
            row.spread_at_half(|sample| sample.p50).median,
            row.spread_at_half(|sample| sample.p99).median,
            row.spread(|sample| sample.megabytes).median,
        );
    }
    out.push('\n');
}

/// Today's rows against those of the earlier binary; nothing where none was measured.
fn about_before(out: &mut String, rows: &[RowReport]) {
    let by_id = by_id(rows);
    let pairs = rows.iter().filter_map(|row| Some((row, *by_id.get(row.before.as_deref()?)?)));
    let pairs: Vec<_> =
        pairs.filter(|(row, before)| !row.rounds.is_empty() && !before.rounds.is_empty()).collect();
    if pairs.is_empty() {
        return;
    }
    out.push_str(
        "Against the earlier binary, round by round:\n\n| Proxy | CPU | CPU, both | req/s | p99 at half load | MB |\n|---|---|---|---|---|---|\n",
    );
    for (row, before) in pairs {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {:.2} |",
            row.title,
            told(row.ratio(before, |sample| sample.cpu), 2),
            told(row.ratio(before, Sample::both), 2),
            told(row.ratio(before, |sample| sample.throughput), 2),
            told(row.ratio_at_half(before, |sample| sample.p99), 2),
            row.ratio(before, |sample| sample.megabytes).median,
        );
    }
    out.push('\n');
}

fn about_pinned(out: &mut String, results: &Results) {
    let Some(pinned) = &results.pinned else { return };
    out.push_str("### With the proxy alone on a core\n\nEverything else on the others, Redis too.\n\n");
    rows(out, &pinned.rows);
    about_before(out, &pinned.rows);
    let _ = writeln!(out, "Latency at {:.0} req/s, open loop:\n", pinned.added.rate);
    about_added(out, &pinned.added);
}

/// What a `complete` cannot do without, and what each of those takes alone and warm.
const FLOOR: [(&str, f64); 8] = [
    ("Ed25519 verify", 1.0),
    ("Ed25519 sign", 1.0),
    ("canonicalise 1.5 KB", 1.0),
    ("read a complete", 1.0),
    ("read a session of 3 KB", 1.0),
    // The digests of the request as it came and as it goes, and of the operation.
    ("SHA-256 of 1.5 KB", 2.0),
    ("HMAC-SHA256 of 1.5 KB", 1.0),
    ("credential looked up", 1.0),
];

/// The floor under a `complete`, stores aside, and how far above it the rows are.
fn about_floor(out: &mut String, results: &Results, by_id: &BTreeMap<&str, &RowReport>) {
    let nanoseconds =
        |name: &str| results.parts.iter().find(|part| part.name == name).map(|part| part.nanoseconds);
    let parts: Option<f64> =
        FLOOR.iter().map(|(name, times)| Some(nanoseconds(name)? * times / 1000.0)).sum();
    let cpu = |id: &str| by_id.get(id).map(|row| row.spread(|sample| sample.cpu).median);
    let (Some(parts), Some(hyper)) = (parts, cpu("hyper")) else { return };
    let floor = parts + hyper;
    let above = |id: &str| {
        let cpu = cpu(id).filter(|cpu| cpu.is_finite())?;
        Some(format!("{:.0} µs is {:.1} times that", cpu, cpu / floor))
    };
    let names: Vec<&str> = FLOOR.iter().map(|(name, _)| *name).collect();
    let _ = writeln!(
        out,
        "**Floor of a `complete`**, its store aside: {floor:.0} µs, which is the pass-through's {hyper:.0} and {parts:.0} of the parts below ({}), each alone and warm.",
        names.join(", ")
    );
    for (id, name) in [("embedded", "On the embedded store"), ("redis-0", "On Redis")] {
        if let Some(above) = above(id) {
            let _ = writeln!(out, "{name} {above}.");
        }
    }
    if let Some(row) = by_id.get("embedded") {
        let batches = row.spread(|sample| sample.batches_a_sync);
        if batches.median > 0.0 {
            let _ = writeln!(out, "At saturation {} transitions share a sync.", told(batches, 1));
        }
    }
    out.push('\n');
}

fn about_added(out: &mut String, added: &Added) {
    let _ = writeln!(
        out,
        "Samples of {:.0} s, by turns; milliseconds from when a request was due. `fdatasync` of 4 KiB on this disk: p50 {:.2}, p99 {:.2}.\n\n\
         | Through | p50 | p99 | CPU µs/request |\n|---|---|---|---|",
        added.seconds, added.fdatasync.0, added.fdatasync.1
    );
    for (id, samples) in &added.samples {
        let of = |what: fn(&Sample) -> f64| Spread::of(&samples.iter().map(what).collect::<Vec<_>>());
        let (p50, p99) = (of(|sample| sample.p50), of(|sample| sample.p99));
        let _ = writeln!(
            out,
            "| {id} | {} | {} | {} |",
            told(p50, 2),
            told(p99, 2),
            told(of(|sample| sample.cpu), 0)
        );
    }
    out.push('\n');
}

fn about_growth(out: &mut String, results: &Results) {
    if results.growth.is_empty() {
        return;
    }
    out.push_str(
        "### Growth\n\n`complete`, embedded; small and large by turns.\n\n| What | from | to | CPU µs, small | CPU µs, large | ratio |\n|---|---|---|---|---|---|\n",
    );
    for growth in &results.growth {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            growth.what,
            growth.from,
            growth.to,
            told(Spread::of(&growth.small), 1),
            told(Spread::of(&growth.large), 1),
            told(growth.ratio(), 2)
        );
    }
    out.push('\n');
}

fn about_memory(out: &mut String, results: &Results) {
    let Some(memory) = &results.memory else { return };
    let _ = writeln!(
        out,
        "### Memory\n\n{} agents, {} connections, mixed requests.\n\n| Requests | resident MB |\n|---|---|",
        memory.agents, memory.connections
    );
    for (requests, megabytes) in &memory.looks {
        let _ = writeln!(out, "| {requests} | {megabytes:.1} |");
    }
    out.push('\n');
}

fn about_hostile(out: &mut String, results: &Results) {
    let Some(hostile) = &results.hostile else { return };
    let _ = writeln!(
        out,
        "### Hostile traffic\n\n{:.0} good `complete` a second, open loop, alone and beside {:.0} hostile requests a second.\n\n\
         | Good traffic | req/s | p50 ms | p99 ms |\n|---|---|---|---|",
        hostile.good_rate, hostile.hostile_rate
    );
    for (name, samples) in [("alone", &hostile.alone), ("beside hostile", &hostile.beside)] {
        let of = |what: fn(&Sample) -> f64| Spread::of(&samples.iter().map(what).collect::<Vec<_>>());
        let (throughput, p50, p99) =
            (of(|sample| sample.throughput), of(|sample| sample.p50), of(|sample| sample.p99));
        let _ = writeln!(out, "| {name} | {} | {} | {} |", told(throughput, 0), told(p50, 2), told(p99, 2));
    }
    let answers = hostile.answers.iter().map(|(status, count)| format!("{count} x {status}"));
    let _ = writeln!(out, "\nAnswers to the hostile: {}.\n", answers.collect::<Vec<_>>().join(", "));
}

fn about_parts(out: &mut String, results: &Results) {
    if results.parts.is_empty() {
        return;
    }
    out.push_str("### Parts of the hot path\n\n| Part | ns |\n|---|---|\n");
    for part in &results.parts {
        let _ = writeln!(out, "| {} | {:.0} |", part.name, part.nanoseconds);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_take_the_place_of_earlier_ones() {
        let document = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let spliced = splice(&document, "new").unwrap();
        assert_eq!(spliced, format!("before\n{BEGIN}\n\nnew\n{END}\nafter\n"));
        assert_eq!(splice(&spliced, "new").unwrap(), spliced);
        assert!(splice("nothing", "new").is_err());
    }
}
