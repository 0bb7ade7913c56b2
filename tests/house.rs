//! The rules of the house, read off its source: dependency order, doorways, nothing left half done.
//! Apart from the compiler and its lints, which cannot see any of this.
#![cfg(test)]
#![allow(unreachable_pub, reason = "a program of its own: nothing outside reaches anything")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "house/calls.rs"]
mod calls;
#[path = "house/circles.rs"]
mod circles;
#[path = "house/citations.rs"]
mod citations;
#[path = "house/reading.rs"]
mod reading;

use calls::{Module, module};
use circles::File;
use reading::{Token, paths, tokens, without_tests};

/// What may be named only in some places, and why there. A place is a folder (ending in `/`) or a file.
const DOORWAYS: [(&str, &[(&str, &str)]); 12] = [
    (
        "ring",
        &[
            ("src/crypto/", "cryptography has one home"),
            ("src/server/tls.rs", "rustls is told which cryptography to use"),
            ("src/merchant/tls.rs", "rustls is told which cryptography to use"),
            ("src/quickstart/", "rustls is told which cryptography to use"),
        ],
    ),
    ("aws_lc_rs", &[("src/crypto/", "cryptography has one home")]),
    ("curve25519_dalek", &[("src/crypto/", "cryptography has one home")]),
    ("jsonwebtoken", &[("src/crypto/", "signs through it")]),
    ("fjall", &[("src/storage/embedded/", "the engine behind the storage contract")]),
    ("sfa", &[("src/storage/embedded/", "the container of the engine's files")]),
    ("governor", &[("src/limit/", "the algorithm behind the limits")]),
    ("prometheus", &[("src/telemetry/", "the library behind the metrics")]),
    ("std::env", &[("src/config/", "`env:` references"), ("src/cli/mod.rs", "this program's own path")]),
    ("SystemTime", &[("src/domain/clock.rs", "every other place is given a clock")]),
    (
        "jiff",
        &[
            ("src/domain/clock.rs", "it too can read the clock"),
            ("src/domain/clock/rfc3339.rs", "the calendar's days, for the same module"),
        ],
    ),
    (
        "redis",
        &[
            ("src/storage/redis/", "the shared engine behind the storage contract"),
            ("src/storage/mod.rs", "declares the engine of that name"),
        ],
    ),
];

/// Lines of a file of `src` that is not a test.
const MOST_LINES: usize = 400;
/// Files that may be longer, how long, and why.
const LONGER: [(&str, usize, &str); 0] = [];

/// Folders whose files may call each other in a circle, and why.
const CIRCULAR: [(&str, &str); 0] = [];
/// Names of methods that a file calls of something else than a file of its folder that has one of
/// the same name, and of what.
const OF_SOMETHING_ELSE: [(&str, &str, &str); 4] = [
    ("src/config/values.rs", "decode", "an alphabet of base64"),
    ("src/config/values.rs", "required", "a section of the document"),
    ("src/fraud/velocity.rs", "commit", "the store"),
    ("src/server/shared.rs", "admit", "the limit on arrivals"),
];

/// Files with an `impl` of a type of somebody else's, and why.
const STRAYS: [(&str, &str); 1] =
    [("src/ledger/session.rs", "how a session is kept: the domain knows no store, and the store no session")];

/// A file of Rust.
struct Source {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
    /// Without what only tests are compiled with.
    tokens: Vec<Token>,
    /// All of it is compiled for tests alone.
    is_test: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository, new ones too, without what git ignores. Where there is no git,
/// every file but those it would not hold.
fn files() -> BTreeSet<String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(root()).output();
    let files: BTreeSet<String> = match listed {
        Ok(output) if output.status.success() => {
            let names = String::from_utf8(output.stdout).unwrap();
            names.split_terminator('\0').map(str::to_owned).filter(|f| root().join(f).is_file()).collect()
        }
        _ => walk(root().to_owned()),
    };
    assert!(files.contains("src/lib.rs"), "the repository's files were not found");
    files
}

fn walk(directory: PathBuf) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        if path.is_file() {
            files.insert(name);
        } else if ![".git", "target", "certs/dev"].contains(&name.as_str()) {
            files.extend(walk(path));
        }
    }
    files
}

/// Every file of Rust below `folder`.
fn sources(folder: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut tests = BTreeSet::new();
    for path in files().into_iter().filter(|path| path.starts_with(folder) && path.ends_with(".rs")) {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let (tokens, modules) = without_tests(tokens(&text));
        let home = module_folder(&path);
        tests.extend(modules.into_iter().map(|name| format!("{home}/{name}")));
        sources.push(Source { path, text, tokens, is_test: false });
    }
    for source in &mut sources {
        let path = &source.path;
        let belongs_to = |test: &String| {
            path.strip_prefix(test.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.is_test = tests.iter().any(belongs_to);
    }
    sources
}

/// Where a file's submodules are found.
fn module_folder(path: &str) -> &str {
    let (folder, name) = path.rsplit_once('/').unwrap();
    if ["mod.rs", "lib.rs", "main.rs"].contains(&name) { folder } else { path.trim_end_matches(".rs") }
}

/// The names of the modules a file stands in, outermost first.
fn module_path(path: &str) -> Vec<&str> {
    module_folder(path).split('/').skip(1).collect()
}

/// The modules of the crate, in the order in which they are declared.
fn declared(lib: &[Token]) -> Vec<String> {
    let names = lib.windows(3).filter(|w| w[0].text == "mod" && w[2].text == ";");
    names.map(|w| w[1].text.clone()).collect()
}

/// Paths of a source that name a module declared below its own.
fn upward_imports(source: &Source, order: &[String]) -> Vec<String> {
    let own = module_path(&source.path);
    let Some(home) = own.first() else { return vec![] };
    let position = |module: &str| order.iter().position(|name| name == module);
    let mut wrong = Vec::new();
    for (line, names) in paths(&source.tokens) {
        // `super` often enough is the crate too.
        let climbed = names.iter().take_while(|name| **name == "super").count();
        let target = match names.first() {
            Some(&"crate") => names.get(1),
            _ if climbed == own.len() => names.get(climbed),
            _ => None,
        };
        let Some(target) = target else { continue };
        if position(target).is_none_or(|target| position(home).is_none_or(|home| target > home)) {
            wrong.push(format!("{}:{line}: `{home}` stands above `{target}` in src/lib.rs", source.path));
        }
    }
    wrong
}

/// Whether a path names what stands behind a doorway.
fn leads_to(names: &[&str], what: &str) -> bool {
    let wanted: Vec<&str> = what.split("::").collect();
    names.windows(wanted.len()).any(|window| window == wanted)
}

/// Uses of macros, outside literals and comments.
fn calls<'a>(source: &'a Source, macros: &'a [&str]) -> impl Iterator<Item = String> + 'a {
    let is_call = |pair: &&[Token]| pair[1].text == "!" && macros.contains(&pair[0].text.as_str());
    let name = |pair: &[Token]| format!("{}:{}: `{}!`", source.path, pair[0].line, pair[0].text);
    source.tokens.windows(2).filter(is_call).map(name)
}

/// Lines of any file of the repository that hold one of these words.
fn lines_with(words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files() {
        // What is no text holds no words.
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                found.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    found
}

fn none(wrong: &[String], rule: &str) {
    assert!(wrong.is_empty(), "{rule}:\n{}", wrong.join("\n"));
}

#[test]
fn a_module_names_only_modules_declared_above_it() {
    let sources = sources("src/");
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    let order = declared(&lib.tokens);
    assert!(order.len() > 10, "the modules of src/lib.rs were not read: {order:?}");
    let product = sources.iter().filter(|source| !source.is_test);
    let wrong: Vec<_> = product.flat_map(|source| upward_imports(source, &order)).collect();
    none(&wrong, "declaration order is dependency order");
}

#[test]
fn what_is_behind_a_doorway_is_named_nowhere_else() {
    let mut wrong = Vec::new();
    for source in sources("src/").iter().filter(|source| !source.is_test) {
        for (line, names) in paths(&source.tokens) {
            for (what, places) in DOORWAYS.iter().filter(|(what, _)| leads_to(&names, what)) {
                let is_allowed =
                    |(place, _): &(&str, &str)| source.path == *place || is_within(&source.path, place);
                if !places.iter().any(is_allowed) {
                    wrong.push(format!("{}:{line}: `{what}`", source.path));
                }
            }
        }
    }
    none(&wrong, "named outside its doorway");
}

fn is_within(path: &str, folder: &str) -> bool {
    folder.ends_with('/') && path.starts_with(folder)
}

#[test]
fn nothing_is_left_half_done() {
    let every = ["src/", "tests/", "loadtest/"].map(sources);
    let wrong: Vec<_> = every.iter().flatten().flat_map(|s| calls(s, &["todo", "unimplemented"])).collect();
    none(&wrong, "left undone");
    none(&lines_with(&[concat!("TO", "DO"), concat!("FIX", "ME")]), "left undone");
}

#[test]
fn only_main_prints() {
    let sources = sources("src/");
    let product = sources.iter().filter(|source| !source.is_test && source.path != "src/main.rs");
    let printing = ["print", "println", "eprint", "eprintln", "dbg"];
    let wrong: Vec<_> = product.flat_map(|source| calls(source, &printing)).collect();
    none(&wrong, "printed outside src/main.rs");
}

#[test]
fn every_file_says_in_the_sentence_of_its_first_line_what_it_is() {
    let every = ["src/", "tests/", "loadtest/"].map(sources);
    let silent = every.iter().flatten().filter(|source| !begins_with_a_sentence(&source.text));
    let wrong: Vec<_> = silent.map(|source| format!("{}:1", source.path)).collect();
    none(&wrong, "does not begin with `//!` and a sentence that ends on that line");
}

fn begins_with_a_sentence(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    let Some(words) = first.strip_prefix("//! ") else { return false };
    words.ends_with(['.', '?']) || words.contains(". ")
}

#[test]
fn files_are_short_enough_to_be_read_at_once() {
    let mut wrong = Vec::new();
    for source in sources("src/").iter().filter(|source| !source.is_test) {
        let longer = LONGER.iter().find(|(path, ..)| *path == source.path);
        let (lines, most) = (source.text.lines().count(), longer.map_or(MOST_LINES, |(_, most, _)| *most));
        if lines > most {
            wrong.push(format!("{}:{most}: {lines} lines", source.path));
        }
    }
    none(&wrong, "longer than allowed");
}

/// The folders of `src`, each with its files; with the module it is a folder of, if that is a file
/// beside it.
fn folders(sources: &[Source]) -> BTreeMap<String, Vec<File<'_>>> {
    let mut folders: BTreeMap<String, Vec<File<'_>>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        let file = || File { path: &source.path, tokens: &source.tokens };
        let (folder, _) = source.path.rsplit_once('/').unwrap();
        folders.entry(format!("{folder}/")).or_default().push(file());
        let own = module_folder(&source.path);
        if own != folder {
            folders.entry(format!("{own}/")).or_default().push(file());
        }
    }
    folders
}

#[test]
fn files_of_a_folder_call_each_other_one_way_only() {
    let sources = sources("src/");
    let is_elsewhere = |from: &str, name: &str| {
        OF_SOMETHING_ELSE.iter().any(|(path, method, _)| *path == from && *method == name)
    };
    let (mut circles, mut untold) = (Vec::new(), Vec::new());
    let mut excepted = BTreeSet::new();
    for (folder, files) in folders(&sources) {
        let seen = circles::calls(&files, is_elsewhere);
        let found = seen.circles();
        if let Some((exception, _)) = CIRCULAR.iter().find(|(exception, _)| folder.starts_with(exception)) {
            excepted.extend((!found.is_empty()).then_some(*exception));
            continue;
        }
        circles.extend(found);
        untold.extend(seen.untold());
    }
    let idle = CIRCULAR.iter().filter(|(folder, _)| !excepted.contains(folder));
    assert_eq!(idle.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new(), "an exception that excepts nothing");
    none(&circles, "what calls each other in a circle is read only as a whole");
    none(
        &untold,
        "two files have a method of one name: give one another, or say in OF_SOMETHING_ELSE whose it is",
    );
}

/// `impl` blocks that stand apart from every type and trait they name, as far as those are of this crate.
fn strays(modules: &[(&str, Module)]) -> Vec<String> {
    let declarers = |name: &str| {
        let declares = move |(_, module): &&(&str, Module)| module.types.iter().any(|known| known == name);
        modules.iter().filter(declares).map(|(path, _)| *path).collect::<Vec<_>>()
    };
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    // Beside the declaration, or in the folder of the module it stands in.
    let is_near = |path: &str, declarer: &str| {
        folder(path) == folder(declarer) || is_within(path, &format!("{}/", module_folder(declarer)))
    };
    let mut wrong = Vec::new();
    for (path, module) in modules {
        for block in &module.impls {
            // A trait may be implemented beside itself, or beside what it is about.
            let names: Vec<&String> =
                block.names.iter().filter(|name| block.is_of_trait || **name == block.of).collect();
            let declared: Vec<&str> = names.iter().flat_map(|name| declarers(name)).collect();
            if !declared.is_empty() && !declared.iter().any(|declarer| is_near(path, declarer)) {
                wrong.push(format!(
                    "{path}:{}: `impl {}`, declared in {}",
                    block.line,
                    block.of,
                    declared.join(", ")
                ));
            }
        }
    }
    wrong
}

#[test]
fn a_type_has_its_functions_in_its_own_file_or_folder() {
    let sources = sources("src/");
    let is_excepted = |source: &Source| STRAYS.iter().any(|(path, _)| *path == source.path);
    let product = sources.iter().filter(|source| !source.is_test && !is_excepted(source));
    let modules: Vec<_> = product.map(|source| (source.path.as_str(), module(&source.tokens))).collect();
    none(&strays(&modules), "an `impl` far from its type is found by nobody");
}

#[test]
fn an_impl_is_a_stray_wherever_nothing_it_names_is_near() {
    let wrong = |path: &str, text: &str| {
        let known = [
            ("src/own/mod.rs", "pub struct Own; pub trait Tells {}"),
            ("src/own/part.rs", "pub enum Part {}"),
            ("src/far.rs", "pub struct Far<T>(T);"),
        ];
        let known = known.into_iter().chain([(path, text)]).map(|(path, text)| (path, module(&tokens(text))));
        strays(&known.collect::<Vec<_>>()).len()
    };
    for (path, text) in [
        ("src/own/flow.rs", "impl Own {} impl Part {}"),
        ("src/far/deep.rs", "impl<T> Far<T> where T: Own {}"),
        ("src/own/flow.rs", "impl From<Far<u8>> for Part {} impl From<Part> for Far<u8> {}"),
        (
            "src/else.rs",
            "struct Mine; impl Tells for Mine {} impl Display for Mine {} impl<'a> Iterator for Vec<&'a u8> {}",
        ),
    ] {
        assert_eq!(wrong(path, text), 0, "{text}");
    }
    for (path, text) in [
        ("src/other/flow.rs", "impl Own {}"),
        ("src/other/flow.rs", "impl<T: Tells> Far<T> {}"),
        ("src/own/flow.rs", "impl Far<Own> {}"),
        ("src/other/flow.rs", "impl From<Far<u8>> for Part {}"),
    ] {
        assert_eq!(wrong(path, text), 1, "{text}");
    }
}

#[test]
fn every_exception_is_of_a_place_that_exists() {
    let places = DOORWAYS.iter().flat_map(|(_, places)| places.iter().map(|(place, _)| *place));
    let others = LONGER
        .map(|(path, ..)| path)
        .into_iter()
        .chain(CIRCULAR.map(|(folder, _)| folder))
        .chain(STRAYS.map(|(path, _)| path))
        .chain(OF_SOMETHING_ELSE.map(|(path, ..)| path));
    let gone = places.chain(others).filter(|place| !root().join(place).exists());
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn no_file_names_a_place_on_the_machine_it_was_written_on() {
    none(&lines_with(&[concat!("/wo", "rk/"), concat!("/ho", "me/")]), "a path that exists on one machine");
}

#[test]
fn a_sentence_ends_where_its_line_does_or_before() {
    for good in ["//! What it is.\n", "//! What it is. And why", "//! Which?"] {
        assert!(begins_with_a_sentence(good), "{good}");
    }
    for bad in ["", "use x;", "//! What it is,\n//! and why.", "/// What it is.", "//!\n//! What it is."] {
        assert!(!begins_with_a_sentence(bad), "{bad}");
    }
}

/// The rules are only as good as the reading: each way to name a module, and each way not to.
#[test]
fn names_are_read_as_the_compiler_reads_them() {
    let source = |path: &str, text: &str| {
        let (tokens, _) = without_tests(tokens(text));
        Source { path: path.to_owned(), text: text.to_owned(), tokens, is_test: false }
    };
    let order = ["low", "own", "high"].map(str::to_owned);
    let wrong = |path: &str, text: &str| upward_imports(&source(path, text), &order).len();
    for named in [
        "use crate::high::X;",
        "use crate::{low::Y, high};",
        "use crate::{\n low::{self, Y as Z},\n high::{A, B}\n};",
        "fn f() { let c = '\"'; crate::high::g(b'\\'', \"x\"); }",
        "fn f<'a>(x: &'a str) -> Vec<crate::high::X> {}",
        "macro_rules! m { () => { $crate::high::f() } }",
        "#[cfg(test)]\n#[allow(x)]\nmod tests { mod deep {} }\nuse crate::high;",
        "use super::super::high::X;",
        "use crate::nowhere::X;",
    ] {
        assert_ne!(wrong("src/own/part.rs", named), 0, "{named}");
    }
    assert_eq!(wrong("src/own/mod.rs", "use super::high;"), 1);
    for not_named in [
        "use crate::low::high::X; use crate::{own::Y, low as high}; use super::high; use high::Z;",
        "// crate::high\n/* crate::high */ const A: &str = \"\\\" crate::high\";",
        "const A: &str = r#\"\"crate::high\"#; const B: &[u8] = br\"crate::high\";",
        "#[cfg(test)]\nmod tests { use crate::high::X; fn f() {} }",
        "#[cfg(test)]\nuse crate::high::X;",
    ] {
        assert_eq!(wrong("src/own/part.rs", not_named), 0, "{not_named}");
    }
    let text = "\n\n/*\n*/ use crate::{low,\n high};";
    assert!(upward_imports(&source("src/own/part.rs", text), &order)[0].starts_with("src/own/part.rs:5:"));
    assert_eq!(without_tests(tokens("#[cfg(test)]\n#[allow(x)]\npub(crate) mod tests;")).1, ["tests"]);
    let doors = |text: &str, what: &str| {
        let tokens = tokens(text);
        paths(&tokens).iter().any(|(_, names)| leads_to(names, what))
    };
    assert!(doors("use std::{env, fs};", "std::env") && doors("use ring as r;", "ring"));
    assert!(doors("let x = rustls::crypto::ring::default_provider();", "ring"));
    assert!(!doors("let ring = Ring::new(ring); env!(\"X\");", "ring"));
    assert_eq!(calls(&source("src/own/part.rs", "fn f() { todo!() } // todo!()"), &["todo"]).count(), 1);
}
