//! The README is true where a machine can tell.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

use countersign::telemetry::metrics::table;

const README: &str = include_str!("../README.md");

#[test]
fn the_metrics_table_is_the_metrics() {
    let definitions = table().unwrap();
    let rows: Vec<String> = definitions
        .iter()
        .map(|metric| {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(" "), metric.help)
        })
        .collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !README.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "the README lacks these rows:\n{}", rows.join("\n"));
    let kinds = ["| counter |", "| gauge |", "| histogram |"];
    let is_row =
        |line: &&str| line.starts_with("| `countersign_") && kinds.iter().any(|kind| line.contains(kind));
    let documented = README.lines().filter(is_row).count();
    assert_eq!(documented, rows.len(), "the README documents metrics that do not exist");
}

#[test]
fn every_file_it_links_to_exists() {
    let links = README.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http")) {
        assert!(std::path::Path::new(link).exists(), "{link}");
    }
}
