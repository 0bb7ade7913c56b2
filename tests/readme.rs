//! The README and the guides are true where a machine can tell.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use countersign::acp::wire::session::SessionView;
use countersign::domain::clock::Timestamp;
use countersign::domain::money::Currency;
use countersign::domain::session::Lifecycle;
use countersign::quickstart::order::{Mandate, mandate, payment};
use countersign::quickstart::shop::{DECLINED_CARD, GOOD_CARD, HESITANT_CARD, SECURE_CARD};
use countersign::telemetry::metrics::{Metrics, table};
use serde_json::Value;

/// A text for people.
struct Document {
    /// Relative to the repository.
    path: PathBuf,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &str) -> Document {
    Document { path: path.into(), text: fs::read_to_string(root().join(path)).expect(path) }
}

/// Every text of the repository.
fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            let name = path.to_str().unwrap();
            if entry.file_type().unwrap().is_dir() {
                if ![".git", "target", "certs/dev"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                documents.push(document(name));
            }
        }
    }
    for guide in ["README.md", "deploy/agents.md", "deploy/merchants.md", "deploy/operating.md"] {
        assert!(documents.iter().any(|document| document.path == Path::new(guide)), "{guide}");
    }
    documents
}

/// Every file of the program.
fn sources() -> Vec<Document> {
    let mut sources = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(document(path.to_str().unwrap()));
            }
        }
    }
    sources
}

/// The text without what stands in fences.
fn prose(text: &str) -> String {
    let parts = text.split("\n```").enumerate().filter(|(number, _)| number % 2 == 0);
    parts.map(|(_, part)| part).collect::<Vec<_>>().join("\n")
}

/// What a link to each heading is called.
fn anchors(text: &str) -> Vec<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn the_readme_is_read_in_a_few_minutes() {
    const MOST_BYTES: usize = 8_000;
    let length = document("README.md").text.len();
    assert!(length <= MOST_BYTES, "{length} bytes: what only some readers need belongs in a guide");
}

#[test]
fn the_tests_that_the_readme_shows_exist() {
    let readme = document("README.md").text;
    let shown = readme.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... ok"));
    let shown: Vec<&str> = shown.collect();
    assert!(!shown.is_empty(), "none is shown");
    for test in shown {
        let (module, name) = test.rsplit_once("::").expect("a module and a name");
        let file = format!("tests/it/{}.rs", module.replace("::", "/"));
        assert!(document(&file).text.contains(&format!("fn {name}()")), "{test}");
    }
}

#[test]
fn the_house_is_as_the_readme_shows_it() {
    let readme = document("README.md").text;
    let table = readme.split("\n| Folder | What |\n").nth(1).expect("the house").split("\n\n").next();
    let rooms = table.into_iter().flat_map(str::lines).filter_map(|line| line.split('|').nth(1));
    let shown: Vec<&str> = rooms.flat_map(|rooms| rooms.split('`').skip(1).step_by(2)).collect();
    let lib = document("src/lib.rs").text;
    let built: Vec<&str> =
        lib.lines().filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';')).collect();
    assert_eq!(shown, built, "the README's house, and src/lib.rs");
}

/// The number of each kind of record's format, and the changelog's newest of that kind.
#[test]
fn the_changelog_knows_every_format_of_a_record() {
    let changelog = document(".github/CHANGELOG.md").text;
    let mut newer = 0;
    for Document { path, text } in sources() {
        for stored in text.split("const KIND: Kind = Kind::").skip(1) {
            let kind = stored.split(';').next().unwrap().to_lowercase();
            let format = stored.split("const FORMAT: u8 = ").nth(1).and_then(|rest| rest.split(';').next());
            let format: u8 = format.and_then(|format| format.parse().ok()).expect("a format");
            // The first needs no word of its own.
            let row = format!("| `{kind}` records | {format} |");
            assert!(format == 1 || changelog.contains(&row), "{path:?}: no row {row}");
            newer += u8::from(format > 1);
        }
    }
    assert!(newer >= 3, "{newer}");
}

/// What is written in one word with an underscore is a name: of an error, a setting, a member of a body.
#[test]
fn every_name_in_a_guide_is_one_that_the_source_knows() {
    let settings = document("deploy/countersign.toml").text;
    let source: String = sources().into_iter().map(|source| source.text).chain([settings]).collect();
    let guides =
        ["README.md", "deploy/agents.md", "deploy/merchants.md", "deploy/operating.md", "deploy/redis.md"];
    let mut unknown = Vec::new();
    for guide in guides {
        let text = prose(&document(guide).text);
        for name in text.split('`').skip(1).step_by(2) {
            let is_name = name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            if is_name && !name.starts_with("countersign_") && !source.contains(name) {
                unknown.push(format!("{guide}: {name}"));
            }
        }
    }
    assert!(unknown.is_empty(), "named in a guide and nowhere in the source: {unknown:#?}");
}

#[test]
fn the_agents_guide_buys_as_the_quickstart_does() {
    let guide = document("deploy/agents.md").text;
    let script = document("src/quickstart/purchase.sh").text;
    assert!(guide.contains(&format!("\n```sh\n{script}```\n")), "another script than the quickstart prints");

    let json = guide.split("\n```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let shown: Vec<Value> = json.map(|text| serde_json::from_str(text).expect(text)).collect();
    let until = Timestamp::parse_rfc3339("2030-01-01T00:30:00Z").unwrap();
    let mandated =
        mandate(&Mandate { card: GOOD_CARD, merchant: "homegoods", session: "cs_1", most: 9_032, until });
    assert_eq!(shown, [mandated, payment("vt_1")]);

    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `4")?.split('`').next());
    let cards: Vec<String> = rows.map(|rest| format!("4{rest}")).collect();
    assert_eq!(cards, [GOOD_CARD, DECLINED_CARD, SECURE_CARD, HESITANT_CARD]);
}

#[test]
fn the_least_sessions_of_the_merchants_guide_are_read_whole() {
    let guide = document("deploy/merchants.md").text;
    let (_, answers) = guide.split_once("\n## Your answer decides\n").unwrap();
    let shown = answers.split("\n```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let read = shown.map(|text| SessionView::read(text.as_bytes()).unwrap());
    let usd = Currency::parse("usd").unwrap();
    let read: Vec<_> = read
        .map(|view| {
            (view.lifecycle(), view.total_in(usd).map(|total| total.amount.get()), view.faults.is_empty())
        })
        .collect();
    assert_eq!(read, [(Lifecycle::Open, Some(7_900), true), (Lifecycle::Completed, Some(7_900), true)]);
}

#[test]
fn every_event_that_somebody_is_to_be_woken_by_is_listed() {
    let guide = document("deploy/operating.md").text;
    let (_, logs) = guide.split_once("\n- **Logs** ").unwrap();
    let logs = logs.lines().next().unwrap();
    let mut events = BTreeSet::new();
    for Document { text, .. } in sources() {
        // Tests make events up.
        let text = text.split("#[cfg(test)]").next().unwrap();
        for begin in ["Level::Error, \"", ".alarm(\""] {
            let words = text.split(begin).skip(1).filter_map(|rest| rest.split('"').next());
            events.extend(words.map(str::to_owned));
        }
    }
    assert!(events.len() > 12 && events.contains("overcharge"), "{events:?}");
    // Of a reload that is not taken up there is one for each reason.
    events.extend(["config_invalid", "reload_refused", "reload_unavailable"].map(str::to_owned));
    let untold: Vec<&String> = events.iter().filter(|event| !logs.contains(&format!("`{event}`"))).collect();
    assert!(untold.is_empty(), "\"Logs\" of deploy/operating.md lacks {untold:?}");
}

/// A refusal that is new has its row there, and belongs with the words that are at 0 from the start.
#[test]
fn every_refusal_of_the_agents_guide_is_counted_from_the_start() {
    // How a checkout says `too_many_requests`.
    const DIALECT: &str = "rate_limited";
    let (guide, scrape) = (document("deploy/agents.md").text, Metrics::new().unwrap().encode());
    let (_, errors) = guide.split_once("\n| Status, `code` | Do |\n|---|---|\n").unwrap();
    let rows = errors.lines().take_while(|line| line.starts_with("| "));
    let codes: Vec<&str> = rows
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter(|word| *word != DIALECT && *word != "Retry-After" && !word.ends_with('…'))
        .collect();
    assert!(codes.len() > 40, "{codes:?}");
    let sample = |code: &str| format!("\ncountersign_refusals_total{{reason=\"{code}\"}} 0\n");
    let uncounted: Vec<&&str> = codes.iter().filter(|code| !scrape.contains(&sample(code))).collect();
    assert!(uncounted.is_empty(), "not in src/telemetry/metrics/words.rs: {uncounted:?}");
}

#[test]
fn each_guide_begins_with_a_task_of_five_minutes() {
    for path in ["deploy/agents.md", "deploy/merchants.md", "deploy/operating.md", "deploy/redis.md"] {
        let text = document(path).text;
        let first = text.lines().find_map(|line| line.strip_prefix("## "));
        assert_eq!(first, Some("In five minutes"), "{path}");
        assert!(text.contains("\n```sh\n"), "{path} has nothing to paste");
    }
}

#[test]
fn the_metrics_table_is_the_metrics() {
    let text = document("deploy/operating.md").text;
    let definitions = table().unwrap();
    let rows: Vec<String> = definitions
        .iter()
        .map(|metric| {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(" "), metric.help)
        })
        .collect();
    let missing: Vec<&String> = rows.iter().filter(|row| !text.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "deploy/operating.md lacks these rows:\n{missing:#?}");
    let kinds = ["| counter |", "| gauge |", "| histogram |"];
    let is_row =
        |line: &&str| line.starts_with("| `countersign_") && kinds.iter().any(|kind| line.contains(kind));
    let documented = text.lines().filter(is_row).count();
    assert_eq!(documented, rows.len(), "deploy/operating.md documents metrics that do not exist");
}

#[test]
fn every_metric_that_is_named_exists() {
    let metrics = table().unwrap();
    for Document { path, text } in documents() {
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            // A family is named by its beginning, `countersign_unresolved_…`.
            let is_one = |name: &str| name == word || word.ends_with('_') && name.starts_with(word);
            let is_metric = word.starts_with("countersign_") && !word.starts_with("countersign_operator_");
            assert!(!is_metric || metrics.iter().any(|metric| is_one(&metric.name)), "{path:?}: {word}");
        }
    }
}

/// Samples of a histogram are named after it.
#[test]
fn every_metric_that_a_panel_or_a_rule_asks_for_exists() {
    let metrics = table().unwrap();
    let mut asked = BTreeSet::new();
    for path in ["deploy/observability/dashboard.json", "deploy/observability/rules.yaml"] {
        let text = document(path).text;
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if !word.starts_with("countersign_") {
                continue;
            }
            let metric = metrics.iter().find(|metric| {
                word.strip_prefix(metric.name.as_str())
                    .is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            });
            asked.insert(metric.unwrap_or_else(|| panic!("{path}: {word}")).name.clone());
        }
    }
    let forgotten: Vec<&String> =
        metrics.iter().map(|metric| &metric.name).filter(|name| !asked.contains(*name)).collect();
    assert!(forgotten.is_empty(), "no panel and no rule asks for {forgotten:?}");
}

/// Kustomize cannot put one file into another.
#[test]
fn the_rules_are_the_same_as_an_object_of_the_operator() {
    let rules = document("deploy/observability/rules.yaml").text;
    let object = document("deploy/kubernetes/base/prometheusrule.yaml").text;
    let (_, groups) = rules.split_once("\ngroups:\n").expect("groups");
    let (_, spec) = object.split_once("\nspec:\n  groups:\n").expect("a spec of groups");
    for (line, indented) in groups.lines().zip(spec.lines()) {
        assert_eq!(
            indented.strip_prefix("  ").unwrap_or(indented),
            line,
            "two spaces more, and else the same"
        );
    }
    assert_eq!(groups.lines().count(), spec.lines().count());
}

#[test]
fn each_alert_leads_to_a_row_of_when_it_hurts() {
    let rules = document("deploy/observability/rules.yaml").text;
    let guide = document("deploy/operating.md").text;
    let rows =
        guide.split("\n## When it hurts\n").nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
    let alerts = rules.matches("- alert: ").count();
    let books: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: deploy/operating.md#"))
        .collect();
    assert!(alerts > 20 && books.len() == alerts, "{alerts} alerts, {} of them with a row", books.len());
    for anchor in books {
        assert_eq!(rows.matches(&format!("\n| <a id=\"{anchor}\"></a>")).count(), 1, "{anchor}");
    }
}

#[test]
fn every_link_leads_somewhere() {
    for Document { path, text } in documents() {
        let links = prose(&text);
        let links = links.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name("").join(file) };
            assert!(root().join(&target).exists(), "{path:?}: {link}");
            let Some(anchor) = anchor else { continue };
            let text = fs::read_to_string(root().join(&target)).unwrap();
            assert!(anchors(&text).iter().any(|one| one == anchor), "{path:?}: {link}");
        }
    }
}

#[test]
fn every_path_that_is_named_exists() {
    let folders = ["src/", "tests/", "deploy/", "loadtest/", ".ci/", ".cargo/", ".github/"];
    for Document { path, text } in documents() {
        for name in prose(&text).split('`').skip(1).step_by(2) {
            let file = name.split_whitespace().next().unwrap_or_default();
            let is_path = folders.iter().any(|folder| file.starts_with(folder)) && !file.contains('*');
            assert!(!is_path || root().join(file).exists(), "{path:?}: {name}");
        }
    }
}

#[test]
fn every_error_and_event_it_names_is_in_the_code() {
    let code: String = [
        "src/app",
        "src/gateway",
        "src/gateway/refusal",
        "src/fraud/rules",
        "src/server",
        "src/acp",
        "src/operator",
    ]
    .into_iter()
    .flat_map(|folder| fs::read_dir(folder).unwrap())
    .map(|entry| entry.unwrap().path())
    .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
    .chain(["src/app.rs", "src/storage/measured.rs"].map(PathBuf::from))
    .map(|path| fs::read_to_string(path).unwrap())
    .collect();
    let [agents, merchants, operating] =
        ["deploy/agents.md", "deploy/merchants.md", "deploy/operating.md"].map(|path| document(path).text);
    let is_error_row = |line: &&str| line.starts_with("| 4") || line.starts_with("| 5");
    let errors = agents.lines().filter(is_error_row).filter_map(|line| line.split('|').nth(1));
    let redeem = merchants.lines().filter(|line| line.starts_with("Without a card there is nothing"));
    let events = operating.lines().filter(|line| line.starts_with("- **Logs**"));
    assert!(redeem.clone().count() == 1 && events.clone().count() == 1, "a paragraph is gone");
    let named: Vec<&str> = errors
        .chain(redeem)
        .chain(events)
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .collect();
    assert!(named.len() > 50, "{named:?}");
    let unknown: Vec<&str> =
        named.into_iter().filter(|word| !code.contains(&format!("\"{word}\""))).collect();
    assert!(unknown.is_empty(), "named in a guide and nowhere in the code: {unknown:?}");
}
