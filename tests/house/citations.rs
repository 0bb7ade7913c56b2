//! What comments cite: files of the repository, sections of RFCs and of ACP's texts, nothing else.

use std::path::Path;

use super::reading::comments;
use super::{files, module_folder, none, root};

/// ACP's texts, as its repository names them.
const ACP_TEXTS: [&str; 10] = [
    "affiliate_attribution",
    "agentic_checkout",
    "cart",
    "capability_negotiation",
    "delegate_authentication",
    "delegate_payment",
    "discovery",
    "intent_traces",
    "orders",
    "payment_handlers",
];
/// What a section may be of, besides ACP's texts.
const STANDARDS: [&str; 4] = ["RFC ", "NIST SP ", "SEC 2", "draft-"];
/// How the name of a file ends.
const ENDINGS: [&str; 9] = [".md", ".rs", ".toml", ".lua", ".py", ".mjs", ".yaml", ".yml", ".sh"];
/// Names of files that are not of the repository, and what they are.
const ELSEWHERE: [(&str, &str); 0] = [];

/// What a comment of `path` cites that a reader cannot find.
fn unresolved(path: &str, comment: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, _) in comment.match_indices('§') {
        let (before, cited) = comment.split_at(at);
        let is_known = STANDARDS.iter().any(|standard| before.contains(standard))
            || ACP_TEXTS.iter().any(|text| before.contains(&format!("rfc.{text}")));
        if !is_known {
            let cited: String = cited.chars().take(12).collect();
            wrong.push(format!("{cited}: of what?"));
        }
    }
    let words = comment.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
    for text in words.filter_map(|word| word.strip_prefix("rfc.")) {
        let text = text.trim_end_matches('.');
        if !ACP_TEXTS.contains(&text) {
            wrong.push(format!("rfc.{text} is no text of ACP's"));
        }
    }
    let mut quoted = comment.split('`');
    quoted.next();
    while let Some(cited) = quoted.next() {
        let behind = quoted.next().unwrap_or_default();
        if !ELSEWHERE.iter().any(|(name, _)| *name == cited) {
            wrong.extend(missing(path, cited, behind));
        }
    }
    wrong
}

/// What is wrong with a citation of a file, and of the section whose title stands behind it.
fn missing(path: &str, cited: &str, behind: &str) -> Option<String> {
    let is_path = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let is_file = ENDINGS.iter().any(|ending| cited.ends_with(ending) && cited.len() > ending.len());
    let first = cited.split('/').next().unwrap_or_default();
    // A module, as a path without an ending.
    let is_module = cited.contains('/') && root().join("src").join(first).is_dir() && !first.is_empty();
    if !cited.chars().all(is_path) || cited.starts_with(['/', '.', '-']) || !(is_file || is_module) {
        return None;
    }
    let (folder, _) = path.rsplit_once('/').unwrap_or(("", path));
    let own = if path.ends_with(".rs") && path.contains('/') { module_folder(path) } else { folder };
    let package = path.split("src/").next().unwrap_or_default();
    let homes = ["", "src", "tests", package, folder, own, Path::new(folder).parent()?.to_str()?];
    let is_there = |home: &&str| {
        let place = root().join(home).join(cited);
        place.exists() || place.with_extension("rs").is_file()
    };
    let Some(home) = homes.into_iter().find(is_there) else { return Some(format!("`{cited}` is not here")) };
    // A title in quotes behind the name is that of a section.
    let title = behind.strip_prefix(", \"")?.split('"').next()?;
    let text = std::fs::read_to_string(root().join(home).join(cited)).ok()?;
    let is_heading = |line: &str| line.starts_with('#') && line.trim_start_matches('#').trim() == title;
    (!text.lines().any(is_heading)).then(|| format!("`{cited}` has no section \"{title}\""))
}

#[test]
fn every_citation_in_a_comment_resolves_here_or_is_a_section_of_a_public_text() {
    let mut wrong = Vec::new();
    let mut read = 0;
    for path in files() {
        let comments = match path.rsplit_once('.') {
            Some((_, "rs")) => comments(&std::fs::read_to_string(root().join(&path)).unwrap()),
            Some((_, "toml")) => {
                let text = std::fs::read_to_string(root().join(&path)).unwrap();
                let comment = |(at, line): (usize, &str)| Some((at + 1, line.split_once('#')?.1.to_owned()));
                text.lines().enumerate().filter_map(comment).collect()
            }
            _ => continue,
        };
        read += comments.len();
        for (line, comment) in comments {
            wrong
                .extend(unresolved(&path, &comment).into_iter().map(|what| format!("{path}:{line}: {what}")));
        }
    }
    assert!(read > 1_000, "the comments were not read: {read}");
    none(&wrong, "a comment cites what its reader does not have");
}

#[test]
fn a_citation_is_followed_to_its_file_and_section() {
    let wrong = |comment: &str| unresolved("src/acp/problem.rs", comment).len();
    for found in [
        "`src/acp/README.md`, \"Errors\"",
        "`README.md` `wire/mod.rs` `acp/version.rs` `tests/house.rs` `Cargo.toml` `acp/wire`",
        "RFC 9421 §2.5, then §3.2; rfc.delegate_payment §5.3.",
        "`a.b` `/.well-known/acp.json` `$.x` `GET /x` `text/html` `.md` `{id}.rs`",
    ] {
        assert_eq!(wrong(found), 0, "{found}: {:?}", unresolved("src/acp/problem.rs", found));
    }
    for lost in [
        "`product.md`",
        "`src/acp/README.md`, \"File defects\"",
        "(`acp/protocol.md`)",
        "DP §2.6",
        "§5 of it",
        "rfc.delegated_payment",
        "besides `gateway/rescue`",
    ] {
        assert_eq!(wrong(lost), 1, "{lost}");
    }
    let text = "let x = \"// `a.md`\"; // one\n// two\n\n/// three `b.md`\n\nfn f() {}\n\n/* four */";
    let read: Vec<_> = comments(text);
    assert_eq!(read.len(), 3, "{read:?}");
    assert_eq!(read[0], (1, "one two".to_owned()));
    assert_eq!(read[1], (4, "three `b.md`".to_owned()));
}
