//! Reading Rust well enough for the rules: words, test-only items, paths. Apart from the rules
//! because it knows none of them.

/// A word of Rust: a name, `::`, or one character of punctuation. Comments and literals are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

/// The words of a file.
pub fn tokens(text: &str) -> Vec<Token> {
    let is_word = |piece: &&(usize, &str)| {
        let is_name = piece.1.chars().all(|c| c.is_alphanumeric() || c == '_');
        let is_punctuation = piece.1.len() == 1 && piece.1.starts_with(|c: char| c.is_ascii_punctuation());
        is_name || is_punctuation || piece.1 == "::"
    };
    pieces(text)
        .iter()
        .filter(is_word)
        .map(|(line, word)| Token { line: *line, text: (*word).to_owned() })
        .collect()
}

/// The comments of a file, those on lines that follow each other as one, without their marks.
pub fn comments(text: &str) -> Vec<(usize, String)> {
    let mut comments: Vec<(usize, String)> = Vec::new();
    let mut ends = 0;
    for (line, piece) in pieces(text) {
        if !piece.starts_with("//") && !piece.starts_with("/*") {
            continue;
        }
        let piece = piece.trim_start_matches(['/', '*', '!']).trim_end_matches(['*', '/']).trim();
        match comments.last_mut() {
            Some((_, before)) if line == ends + 1 => {
                before.push(' ');
                before.push_str(piece);
            }
            _ => comments.push((line, piece.to_owned())),
        }
        ends = line + piece.matches('\n').count();
    }
    comments
}

/// All that stands in a file, space too, each with its line.
fn pieces(text: &str) -> Vec<(usize, &str)> {
    let mut pieces = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let name = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        let length = match first {
            _ if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            // A character; or a lifetime, which is a quote and a name.
            '\'' if rest.starts_with("'\\") => quoted(rest, '\''),
            '\'' => match rest.char_indices().nth(2) {
                Some((quote, '\'')) => quote + 1,
                _ => 1,
            },
            _ if rest.starts_with("::") => 2,
            _ if name > 0 => raw_string(rest).unwrap_or(name),
            _ => first.len_utf8(),
        };
        let (piece, after) = rest.split_at(length);
        pieces.push((line, piece));
        line += piece.matches('\n').count();
        rest = after;
    }
    pieces
}

/// The length of a literal between quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (position, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return position + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `br#"…"#` and their like.
fn raw_string(text: &str) -> Option<usize> {
    let opening = ["r", "br", "cr"].iter().find_map(|prefix| text.strip_prefix(prefix))?;
    let after = opening.trim_start_matches('#');
    let content = after.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(opening.len() - after.len()));
    Some(text.len() - content.len() + content.find(&end)? + end.len())
}

/// Takes out the items under `#[cfg(test)]`, and names those that are modules in files of their own.
pub fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let marked = tokens.iter().skip(at).map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        // To the end of the item: a `;` or a closing `}` outside every bracket.
        let start = at + MARK.len();
        let mut depth = 0_i32;
        at = start;
        while at < tokens.len() {
            let text = tokens[at].text.as_str();
            match text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(text, ";" | "}") {
                break;
            }
        }
        let item: Vec<&str> = tokens[start..at].iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = item[..] {
            modules.push(name.to_owned());
        }
    }
    (kept, modules)
}

/// Every path of several names, the trees of `use` spelled out, with the line of its last name.
pub fn paths(tokens: &[Token]) -> Vec<(usize, Vec<&str>)> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let alone = at > 0 && matches!(tokens[at - 1].text.as_str(), "use" | "crate");
        let found = paths.len();
        at = path(tokens, at, &[], &mut paths);
        if !alone && paths.get(found).is_some_and(|(_, names)| names.len() == 1) {
            paths.remove(found);
        }
    }
    paths
}

/// Reads the path that begins at a token; gives where reading goes on.
fn path<'a>(
    tokens: &'a [Token],
    mut at: usize,
    prefix: &[&'a str],
    paths: &mut Vec<(usize, Vec<&'a str>)>,
) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let is_name = |at: usize| text(at).starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let mut names = prefix.to_vec();
    if !is_name(at) {
        return at + 1;
    }
    while is_name(at) {
        names.push(text(at));
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    if at > 0 && text(at - 1) == "::" && text(at) == "{" {
        at += 1;
        while !matches!(text(at), "}" | "") {
            // `X as Y`: Y is a name of this file's own.
            at = if text(at) == "as" { at + 2 } else { path(tokens, at, &names, paths) };
        }
        return at + 1;
    }
    paths.push((tokens[at - 1].line, names));
    at
}
