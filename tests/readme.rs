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

#[test]
fn every_error_and_event_it_names_is_in_the_code() {
    let code: String =
        ["src/gateway", "src/gateway/refusal", "src/fraud/rules", "src/server", "src/acp", "src/operator"]
            .into_iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .chain(["src/app.rs", "src/storage/measured.rs"].map(std::path::PathBuf::from))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect();
    let is_error_row = |line: &&str| line.starts_with("| 4") || line.starts_with("| 5");
    let errors = README.lines().filter(is_error_row).filter_map(|line| line.split('|').nth(1));
    let paragraph = |start: &str| README.lines().find(|line| line.starts_with(start)).expect("the paragraph");
    let named: Vec<&str> = errors
        .chain([paragraph("Without a card there is nothing"), paragraph("- **Logs**")])
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    let unknown: Vec<&str> =
        named.into_iter().filter(|word| !code.contains(&format!("\"{word}\""))).collect();
    assert!(unknown.is_empty(), "named in the README and nowhere in the code: {unknown:?}");
}
