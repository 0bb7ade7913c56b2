//! Which files of a folder call which, and whether one comes back to itself.

use std::collections::{BTreeMap, BTreeSet};

use super::calls::{Call, Module, module};
use super::reading::Token;

/// Methods of the standard library's types that ours are called like too. Without types nobody can
/// tell them apart, so a call of one is no evidence.
const EVERYBODYS: [&str; 18] = [
    "as_bytes", "as_str", "clone", "find", "get", "insert", "is_empty", "iter", "join", "len", "map", "next",
    "push", "read", "remove", "send", "take", "write",
];

/// A file of a folder.
pub struct File<'a> {
    /// Relative to the repository.
    pub path: &'a str,
    pub tokens: &'a [Token],
}

/// From one file to another, with the calls that lead there.
type Edges<'a> = BTreeMap<(&'a str, &'a str), Vec<String>>;

/// What calls show of a folder.
pub struct Seen<'a> {
    /// Calls of a name that one file of the folder defines.
    certain: Edges<'a>,
    /// Calls of a name that several define: nobody can tell which is meant.
    untold: Edges<'a>,
}

/// Reads the calls between the files of one folder. `is_elsewhere` says of a file and a name that it
/// is another's method of the same name that this file calls.
pub fn calls<'a>(files: &[File<'a>], is_elsewhere: impl Fn(&str, &str) -> bool) -> Seen<'a> {
    let modules: Vec<(&str, Module)> = files.iter().map(|file| (file.path, module(file.tokens))).collect();
    let (mut certain, mut untold) = (Edges::new(), Edges::new());
    for (from, own) in &modules {
        for call in own.calls.iter().filter(|call| !is_elsewhere(from, &call.name)) {
            let definers = definers(call, (from, own), &modules);
            // What a file defines itself it is taken to mean.
            if definers.contains(from) {
                continue;
            }
            let edges = if definers.len() == 1 { &mut certain } else { &mut untold };
            for to in definers {
                edges.entry((*from, to)).or_default().push(format!("{}:{}", call.name, call.line));
            }
        }
    }
    Seen { certain, untold }
}

/// The files that define what a call may mean.
fn definers<'a>(
    call: &Call,
    (from, own): (&str, &Module),
    modules: &[(&'a str, Module)],
) -> BTreeSet<&'a str> {
    let those = |of: &dyn Fn(&'a str, &Module) -> bool| -> BTreeSet<&'a str> {
        modules.iter().filter(|(path, module)| of(path, module)).map(|(path, _)| *path).collect()
    };
    let is_free = |module: &Module| module.functions.iter().any(|f| f.name == call.name && f.of.is_none());
    let is_of = |module: &Module, of: &str| {
        module.functions.iter().any(|f| f.name == call.name && f.of.as_deref() == Some(of))
    };
    if call.is_method {
        if EVERYBODYS.contains(&call.name.as_str()) {
            return BTreeSet::new();
        }
        return those(&|_, module| module.functions.iter().any(|f| f.name == call.name && f.is_method));
    }
    let imported = |name: &str| own.imports.iter().find(|(alias, _)| alias == name).map(|(_, path)| path);
    // The files at a path of modules, as this file writes it; of a folder's own module, which may
    // pass on what its files define, all of them.
    let at = |names: &[String], of: &dyn Fn(&Module) -> bool| {
        let Some(names) = absolute(from, names) else { return BTreeSet::new() };
        let exactly = those(&|path, module| super::module_path(path) == names && of(module));
        let is_folder = modules
            .iter()
            .any(|(path, _)| super::module_path(path).split_last().is_some_and(|(_, above)| above == names));
        if exactly.is_empty() && is_folder { those(&|_, module| of(module)) } else { exactly }
    };
    match call.path.as_slice() {
        [] if is_free(own) => BTreeSet::new(),
        [] => {
            let Some([of @ .., name]) = imported(&call.name).map(Vec::as_slice) else {
                return BTreeSet::new();
            };
            at(of, &|module| module.functions.iter().any(|f| f.name == *name && f.of.is_none()))
        }
        [.., of] if of == "Self" => {
            let types: BTreeSet<&str> = own.impls.iter().map(|block| block.of.as_str()).collect();
            those(&|_, module| types.iter().any(|of| is_of(module, of)))
        }
        [.., of] if own.types.contains(of) => those(&|_, module| is_of(module, of)),
        [modules @ .., of] if of.starts_with(char::is_uppercase) => {
            let modules = match (modules, imported(of).map(Vec::as_slice)) {
                ([], Some([modules @ .., _])) => modules.to_vec(),
                ([], _) => return BTreeSet::new(),
                (modules, _) => through_import(modules, imported),
            };
            // Its functions may stand in another file than its declaration.
            let declared = at(&modules, &|module| module.types.contains(of));
            let there = those(&|path, module| declared.contains(path) && is_of(module, of));
            if declared.is_empty() || !there.is_empty() {
                there
            } else {
                those(&|_, module| is_of(module, of))
            }
        }
        modules => at(&through_import(modules, imported), &is_free),
    }
}

/// A path whose first name may have been imported.
fn through_import<'m>(names: &[String], imported: impl Fn(&str) -> Option<&'m Vec<String>>) -> Vec<String> {
    match names.split_first().and_then(|(first, rest)| Some((imported(first)?, rest))) {
        Some((path, rest)) => [path.as_slice(), rest].concat(),
        None => names.to_vec(),
    }
}

/// A path of modules from the crate's root on; `None` when it is another crate's.
fn absolute<'a>(from: &'a str, names: &'a [String]) -> Option<Vec<&'a str>> {
    let own = super::module_path(from);
    let climbed = names.iter().take_while(|name| *name == "super").count();
    let rest = |skipped: usize| names.iter().skip(skipped).map(String::as_str);
    match names.first().map(String::as_str) {
        Some("crate") => Some(rest(1).collect()),
        Some("self") => Some(own.into_iter().chain(rest(1)).collect()),
        Some("super") => {
            let above = own.len().checked_sub(climbed)?;
            Some(own.into_iter().take(above).chain(rest(climbed)).collect())
        }
        // A module of this file's own, or another crate: which of the two decides who has such a file.
        Some(_) => Some(own.into_iter().chain(rest(0)).collect()),
        None => Some(own),
    }
}

impl<'a> Seen<'a> {
    /// Each group of files of which every one reaches every other, with the calls that tie it.
    pub fn circles(&self) -> Vec<String> {
        let groups = groups(self.certain.keys());
        groups.iter().map(|group| told(group, &self.certain, "call each other in a circle")).collect()
    }

    /// Groups that are circles only if some call means the file it may mean.
    pub fn untold(&self) -> Vec<String> {
        let certain = groups(self.certain.keys());
        let all = groups(self.certain.keys().chain(self.untold.keys()));
        let new = all.into_iter().filter(|group| !certain.contains(group));
        new.map(|group| told(&group, &self.untold, "cannot be told from a circle")).collect()
    }
}

/// The groups of several files in which every one reaches every other.
fn groups<'a: 'k, 'k>(edges: impl Iterator<Item = &'k (&'a str, &'a str)>) -> BTreeSet<BTreeSet<&'a str>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().insert(to);
    }
    let reached = |start: &'a str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(file) = open.pop() {
            for to in next.get(file).into_iter().flatten() {
                if reached.insert(*to) {
                    open.push(to);
                }
            }
        }
        reached
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|file| (*file, reached(file))).collect();
    let returns = |file: &&&str| reach[**file].contains(**file);
    reach
        .keys()
        .filter(returns)
        .map(|file| {
            let back = |to: &&&str| reach.get(**to).is_some_and(|reached| reached.contains(file));
            reach[file].iter().filter(back).copied().collect()
        })
        .collect()
}

fn told(group: &BTreeSet<&str>, edges: &Edges<'_>, what: &str) -> String {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned();
    let mut text = format!("{} {what}:", group.iter().copied().collect::<Vec<_>>().join(", "));
    for ((from, to), calls) in
        edges.iter().filter(|((from, to), _)| group.contains(from) && group.contains(to))
    {
        text.push_str(&format!("\n    {} → {}: {}", name(from), name(to), calls.join(" ")));
    }
    text
}

#[test]
fn a_circle_is_seen_whatever_it_is_made_of() {
    let seen = |files: &[(&str, &str)]| -> (Vec<String>, Vec<String>) {
        let read: Vec<_> = files.iter().map(|(path, text)| (*path, super::tokens(text))).collect();
        let files: Vec<File<'_>> = read.iter().map(|(path, tokens)| File { path, tokens }).collect();
        let seen = calls(&files, |from, name| from == "src/own/b.rs" && name == "settled");
        (seen.circles(), seen.untold())
    };
    let circles = |files: &[(&str, &str)]| {
        let (circles, untold) = seen(files);
        assert_eq!(untold, Vec::<String>::new());
        circles.len()
    };
    let a = "use super::b::second; pub fn first() { second(); }";
    for back in [
        "use super::a; pub fn second() { a::first(); }",
        "use super::a::first as begin; pub fn second() { begin(); }",
        "pub fn second() { super::a::first(); }",
        "pub fn second() { crate::own::a::first(); }",
        "use crate::own::{a::{self}, c}; pub fn second() { a::first::<u8>(1) }",
    ] {
        assert_eq!(circles(&[("src/own/a.rs", a), ("src/own/b.rs", back)]), 1, "{back}");
    }
    // Methods of one type in several files, as `impl Gateway` was: three files, none of which imports another.
    let gateway = [
        ("src/own/mod.rs", "pub struct Gateway; impl Gateway { pub fn answer(&self) { self.complete() } }"),
        (
            "src/own/complete.rs",
            "use super::Gateway; impl Gateway { pub fn complete(&self) { self.doubt() } }",
        ),
        (
            "src/own/doubt.rs",
            "use super::Gateway; impl<T> Gateway<T> where T: X { fn doubt(&self) { Self::read(self) } }",
        ),
        ("src/own/read.rs", "use super::Gateway; impl Gateway { fn read(&self) { self.complete(); } }"),
    ];
    let (found, _) = seen(&gateway);
    assert_eq!(found.len(), 1);
    for said in ["complete → doubt: doubt:1", "doubt → read: read:1", "read → complete: complete:1"] {
        assert!(found[0].contains(said), "{said}: {}", found[0]);
    }
    assert!(!found[0].contains("mod.rs"), "which calls and is not called: {}", found[0]);
    // What is no circle, or not of this folder.
    for (a, b) in [
        (a, "pub fn second() { first(); fn first() {} }"),
        (a, "pub fn second() { other::first(); }"),
        (a, "use crate::other::a::first; pub fn second() { first(); }"),
        (
            a,
            "pub fn second() {} // first()\n#[cfg(test)] mod tests { use super::super::a::first; fn t() { first() } }",
        ),
        ("impl A { fn settled(&self) { self.x() } }", "impl B { fn x(&self) { self.settled() } }"),
        ("impl Drop for A { fn drop(&mut self) { x(self); } } use super::b::x;", "pub fn x() { drop(y) }"),
        ("impl A { fn map(&self) { self.x() } }", "impl B { fn x(&self) { self.map(1) } }"),
        (
            "struct A; impl A { fn new() { B::of() } } use super::b::B;",
            "struct B; impl B { fn of() { Vec::new() } }",
        ),
    ] {
        let (b, _) = super::without_tests(super::tokens(b));
        let (a, _) = super::without_tests(super::tokens(a));
        let files = [File { path: "src/own/a.rs", tokens: &a }, File { path: "src/own/b.rs", tokens: &b }];
        let seen = calls(&files, |from, name| from == "src/own/b.rs" && name == "settled");
        assert_eq!(seen.circles(), Vec::<String>::new(), "{a:?} {b:?}");
    }
    // Two files define the name: it may be a circle, and nobody can tell.
    let (circles, untold) = seen(&[
        ("src/own/a.rs", "impl A { fn step(&self) { self.x() } }"),
        ("src/own/b.rs", "impl B { fn x(&self) { self.step() } }"),
        ("src/own/c.rs", "impl C { fn step(&self) {} }"),
    ]);
    assert_eq!((circles.len(), untold.len()), (0, 1));
}
