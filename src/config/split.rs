//! Cuts the `[[agents]]` out of a document, so that they can be read one at a time.
//!
//! A document as its parser gives it takes fifty times the room of its text, and of all that a
//! configuration holds only agents are many.

use std::ops::Range;

use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

/// The table that is cut out.
pub(super) const AGENTS: &str = "agents";

/// A document in pieces. Each is a document itself, and all together say what the whole says as long
/// as the rest says nothing of agents.
pub(super) struct Split<'a> {
    /// The document without its agents. Everything stands where it stood.
    pub rest: String,
    /// Each agent's part, with the tables in it, and where it begins.
    pub agents: Vec<(usize, &'a str)>,
}

impl<'a> Split<'a> {
    /// Cuts; `None` where there is no `[[agents]]`, or a part of one stands away from it.
    pub(super) fn of(text: &'a str) -> Option<Self> {
        let ranges = agent_ranges(text)?;
        let mut rest = String::with_capacity(text.len());
        let mut agents = Vec::with_capacity(ranges.len());
        for range in ranges {
            rest.push_str(text.get(rest.len()..range.start)?);
            let agent = text.get(range.clone())?;
            // A comment as long as what it stands for.
            let end = if agent.ends_with('\n') { "\n" } else { "" };
            rest.push('#');
            rest.extend(std::iter::repeat_n(' ', range.len() - 1 - end.len()));
            rest.push_str(end);
            agents.push((range.start, agent));
        }
        rest.push_str(text.get(rest.len()..)?);
        (!agents.is_empty()).then_some(Self { rest, agents })
    }
}

/// What the header of a table opens.
enum Header {
    Agent,
    PartOfAgent,
    Other,
}

/// Where agents stand, each from its header to the next that is not a part of it.
fn agent_ranges(text: &str) -> Option<Vec<Range<usize>>> {
    let mut tokens = Source::new(text).lex();
    let mut ranges = Vec::new();
    let mut open = None;
    // Whether nothing but blanks stands on the line so far, and how many lists and tables are open.
    let (mut is_line_start, mut depth) = (true, 0_usize);
    while let Some(token) = tokens.next() {
        let kind = token.kind();
        if kind == TokenKind::LeftSquareBracket && is_line_start && depth == 0 {
            let start = token.span().start();
            match header(text, &mut tokens) {
                Header::Agent => ranges.extend(open.replace(start).map(|begin| begin..start)),
                Header::PartOfAgent if open.is_some() => {}
                Header::PartOfAgent => return None,
                Header::Other => ranges.extend(open.take().map(|begin| begin..start)),
            }
            continue;
        }
        match kind {
            TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket => depth += 1,
            TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_line_start = kind == TokenKind::Newline || (is_line_start && kind == TokenKind::Whitespace);
    }
    ranges.extend(open.map(|begin| begin..text.len()));
    Some(ranges)
}

/// Reads a header, behind its first bracket, to the end of its line.
fn header(text: &str, tokens: &mut impl Iterator<Item = Token>) -> Header {
    let meant = |token: &Token| !matches!(token.kind(), TokenKind::Whitespace | TokenKind::Comment);
    let line = tokens.take_while(|token| token.kind() != TokenKind::Newline).filter(meant);
    let line: Vec<&str> =
        line.filter_map(|token| text.get(token.span().start()..token.span().end())).collect();
    match line.as_slice() {
        ["[", AGENTS, "]", "]", ..] => Header::Agent,
        ["[", AGENTS, ".", ..] | [AGENTS, ".", ..] => Header::PartOfAgent,
        _ => Header::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Option<(String, Vec<&str>)> {
        let split = Split::of(text)?;
        assert_eq!(split.rest.len(), text.len());
        for (at, agent) in &split.agents {
            assert!(text.get(*at..).is_some_and(|rest| rest.starts_with(agent)));
        }
        Some((split.rest, split.agents.into_iter().map(|(_, agent)| agent).collect()))
    }

    #[test]
    fn each_agent_is_cut_out_with_its_parts_and_everything_else_stays_where_it_was() {
        let a = "[[agents]]\nid = 1\n[agents.signature]\nx = 1\n";
        let b = "[[ agents ]] # b\n[[agents.keys]]\n";
        let text = format!("[server]\n{a} {b}[[merchants]]\nid = 2\n[[agents]]");
        let (rest, agents) = cut(&text).unwrap();
        // Blanks before a header belong to what stands before it.
        assert_eq!(agents, [format!("{a} ").as_str(), b, "[[agents]]"]);
        for kept in ["[server]\n", "[[merchants]]\nid = 2\n"] {
            assert_eq!(rest.find(kept), text.find(kept));
        }
        assert!(!rest.contains("agents"), "{rest}");
    }

    #[test]
    fn what_only_looks_like_an_agent_is_none() {
        for text in [
            "a = 1\n",
            "a = \"\"\"\n[[agents]]\n\"\"\"\n",
            "a = '''\n[[agents]]\n'''\n",
            "a = [\n[[\"agents\"]]\n]\n",
            "a = [\n[[agents]]\n]\n",
            "# [[agents]]\n",
            "[[\"agents\"]]\n",
            "[agents]\n",
            "agents = [{ id = 1 }]\n",
            "[[agents2]]\n[[x.agents]]\n",
        ] {
            assert!(cut(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_part_of_an_agent_that_stands_elsewhere_is_left_to_who_reads_the_whole() {
        assert!(cut("[[agents]]\n[store]\n[agents.signature]\n").is_none());
        assert!(cut("[agents.signature]\n[[agents]]\n").is_none());
    }
}
