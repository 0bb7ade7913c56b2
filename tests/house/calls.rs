//! Reading which functions a file defines and which it calls. Apart from the rules because it knows
//! none of them, and from the compiler because no type is known here: a call is a name before `(`.

use super::reading::Token;

/// A function with a body, or one that a trait declares.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    /// The type whose `impl` it stands in, or the trait that declares it.
    pub of: Option<String>,
    /// It takes `self`.
    pub is_method: bool,
}

/// A call, as it is written.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub line: usize,
    /// The names before the last, `Self` and modules among them; none of a method's.
    pub path: Vec<String>,
    pub name: String,
    /// Of something: `x.name(`.
    pub is_method: bool,
}

/// An `impl` block.
#[derive(Debug, PartialEq)]
pub struct Impl {
    pub line: usize,
    pub of: String,
    /// All types and traits it names between `impl` and `{`.
    pub names: Vec<String>,
    /// It is of a trait.
    pub is_of_trait: bool,
}

/// What a file defines, imports and calls.
#[derive(Debug, Default)]
pub struct Module {
    /// Functions that no trait of somebody else's asks for: those are called through the trait.
    pub functions: Vec<Function>,
    /// Its structs, enums, traits and aliases.
    pub types: Vec<String>,
    pub impls: Vec<Impl>,
    /// Names it imports, with the path behind each.
    pub imports: Vec<(String, Vec<String>)>,
    pub calls: Vec<Call>,
}

/// Reads a file's words.
pub fn module(tokens: &[Token]) -> Module {
    let words = Words(tokens);
    let mut found = Module { imports: imports(&words), ..Module::default() };
    // The blocks of `impl` and `trait` that a word stands in: how deep, of what, by which trait.
    let mut within: Vec<(usize, String, Option<String>)> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    while at < tokens.len() {
        match words.text(at) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                within.retain(|(inside, ..)| *inside <= depth);
            }
            "struct" | "enum" | "union" | "type" if words.is_name(at + 1) => {
                found.types.push(words.text(at + 1).to_owned());
            }
            "trait" if words.is_name(at + 1) => {
                let name = words.text(at + 1).to_owned();
                found.types.push(name.clone());
                at = words.find(at, "{");
                depth += 1;
                within.push((depth, name, None));
            }
            "impl" if words.begins_item(at) => {
                let (of, by, body) = words.impl_header(at + 1);
                let names = (at + 1..body)
                    .map(|at| words.text(at))
                    .filter(|word| word.starts_with(char::is_uppercase));
                found.impls.push(Impl {
                    line: tokens[at].line,
                    of: of.clone(),
                    names: names.map(str::to_owned).collect(),
                    is_of_trait: by.is_some(),
                });
                at = body;
                depth += 1;
                within.push((depth, of, by));
            }
            "fn" if words.is_name(at + 1) => {
                let block = within.last();
                if block.is_none_or(|(.., by)| by.is_none()) {
                    found.functions.push(Function {
                        name: words.text(at + 1).to_owned(),
                        of: block.map(|(_, of, _)| of.clone()),
                        is_method: words.takes_self(at + 2),
                    });
                }
                // The name is no call.
                at += 1;
            }
            _ => found.calls.extend(words.call(at)),
        }
        at += 1;
    }
    found
}

fn imports(words: &Words<'_>) -> Vec<(String, Vec<String>)> {
    let mut imports = Vec::new();
    let mut at = 0;
    while at < words.0.len() {
        at = if words.text(at) == "use" { words.import(at + 1, &[], &mut imports) } else { at + 1 };
    }
    imports
}

struct Words<'a>(&'a [Token]);

impl Words<'_> {
    fn text(&self, at: usize) -> &str {
        self.0.get(at).map_or("", |token| token.text.as_str())
    }

    fn is_name(&self, at: usize) -> bool {
        self.text(at).starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn find(&self, from: usize, word: &str) -> usize {
        (from..self.0.len()).find(|at| self.text(*at) == word).unwrap_or(self.0.len())
    }

    /// `impl` also stands in types: `-> impl Trait`.
    fn begins_item(&self, at: usize) -> bool {
        at == 0 || matches!(self.text(at - 1), ";" | "{" | "}" | "]" | "unsafe")
    }

    /// Past `<…>`, if it stands here.
    fn past_generics(&self, mut at: usize) -> usize {
        if self.text(at) != "<" {
            return at;
        }
        let mut depth = 0;
        loop {
            match self.text(at) {
                "<" => depth += 1,
                ">" if self.text(at - 1) != "-" => depth -= 1,
                "" => return at,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
    }

    /// The type, the trait and the place of the `{` of an `impl` whose first word stands here.
    fn impl_header(&self, at: usize) -> (String, Option<String>, usize) {
        let mut at = self.past_generics(at);
        let (mut last, mut by) = (String::new(), None);
        loop {
            match self.text(at) {
                "{" | "" => return (last, by, at),
                "where" => return (last, by, self.find(at, "{")),
                "<" => at = self.past_generics(at) - 1,
                "for" => by = Some(std::mem::take(&mut last)),
                _ if self.is_name(at) => self.text(at).clone_into(&mut last),
                _ => {}
            }
            at += 1;
        }
    }

    /// Whether the parameters that stand here begin with `self`.
    fn takes_self(&self, at: usize) -> bool {
        let first = self.past_generics(at) + 1;
        let mut words = (first..self.0.len()).map(|at| self.text(at));
        let is_end = |word: &&str| matches!(*word, "," | ")" | ":" | "{");
        words.by_ref().take_while(|word| !is_end(word)).any(|word| word == "self")
    }

    /// The call whose last name stands here.
    fn call(&self, at: usize) -> Option<Call> {
        let name = self.text(at);
        let behind = if self.text(at + 1) == "::" { self.past_generics(at + 2) } else { at + 1 };
        if !name.starts_with(|c: char| c.is_lowercase() || c == '_') || self.text(behind) != "(" {
            return None;
        }
        let before = |back: usize| at.checked_sub(back).map_or("", |at| self.text(at));
        let mut path = Vec::new();
        let mut back = 1;
        while before(back) == "::" && at.checked_sub(back + 1).is_some_and(|at| self.is_name(at)) {
            path.insert(0, before(back + 1).to_owned());
            back += 2;
        }
        if path.is_empty() && before(1) == "::" {
            // Of a type with generics: `Vec::<u8>::new(`, `<X as Y>::z(`.
            return None;
        }
        Some(Call { line: self.0[at].line, path, name: name.to_owned(), is_method: before(1) == "." })
    }

    /// Reads the tree of a `use` that stands here; gives where reading goes on.
    fn import(&self, mut at: usize, prefix: &[String], imports: &mut Vec<(String, Vec<String>)>) -> usize {
        let mut path = prefix.to_vec();
        while self.is_name(at) {
            path.push(self.text(at).to_owned());
            at += 1;
            if self.text(at) != "::" {
                break;
            }
            at += 1;
        }
        if self.text(at) == "{" {
            at += 1;
            while !matches!(self.text(at), "}" | "") {
                at = if self.text(at) == "," { at + 1 } else { self.import(at, &path, imports) };
            }
            return at + 1;
        }
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut alias = path.last().cloned().unwrap_or_default();
        if self.text(at) == "as" {
            self.text(at + 1).clone_into(&mut alias);
            at += 2;
        } else if self.text(at) == "*" {
            at += 1;
        }
        imports.push((alias, path));
        // Never stuck, whatever stands here.
        if matches!(self.text(at), "," | "}" | ";") { at } else { at + 1 }
    }
}
