//! Reading `Countersign-Context`: the RFC 8941 dictionary in which the gateway says who asks for what.
//!
//! Strings, integers and booleans are all it holds.

use std::collections::HashMap;

/// What the gateway says about a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The merchant it is meant for.
    pub merchant: String,
    /// The agent that asks.
    pub agent: String,
    /// How the agent proved itself: `signed` or `bearer`.
    pub proof: String,
    /// On complete: the gateway's token.
    pub token: Option<String>,
    /// On complete: the claim, which is the idempotency key too.
    pub claim: Option<String>,
    /// On complete: the session's total that was checked, in minor units.
    pub amount: Option<u64>,
    /// On complete: its currency.
    pub currency: Option<String>,
    /// On complete: which attempt of the claim this is.
    pub attempt: Option<u64>,
    /// Whether the order should be reviewed.
    pub review: bool,
}

enum Item {
    Text(String),
    Integer(u64),
    Boolean(bool),
}

impl Context {
    /// Reads the header's value; `None` when it is malformed or lacks merchant, agent or proof.
    pub fn parse(text: &str) -> Option<Self> {
        let mut members = dictionary(text)?;
        let mut take = |name: &str| match members.remove(name) {
            Some(Item::Text(text)) => Some(text),
            _ => None,
        };
        let (merchant, agent, proof) = (take("merchant")?, take("agent")?, take("proof")?);
        let (token, claim, currency) = (take("token"), take("claim"), take("currency"));
        let integer = |name| match members.get(name) {
            Some(Item::Integer(integer)) => Some(*integer),
            _ => None,
        };
        let review = matches!(members.get("review"), Some(Item::Boolean(true)));
        let (amount, attempt) = (integer("amount"), integer("attempt"));
        Some(Self { merchant, agent, proof, token, claim, amount, currency, attempt, review })
    }
}

/// The members of a dictionary (RFC 8941 §3.2) without parameters.
fn dictionary(text: &str) -> Option<HashMap<String, Item>> {
    let mut members = HashMap::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || "_-.*".contains(c)));
        let (key, after) = rest.split_at(end.unwrap_or(rest.len()));
        if key.is_empty() {
            return None;
        }
        let (item, after) = match after.strip_prefix('=') {
            Some(value) => item(value)?,
            None => (Item::Boolean(true), after),
        };
        if members.insert(key.to_owned(), item).is_some() {
            return None;
        }
        if after.is_empty() {
            return Some(members);
        }
        rest = after.trim_start_matches([' ', '\t']).strip_prefix(',')?.trim_start_matches([' ', '\t']);
    }
}

fn item(value: &str) -> Option<(Item, &str)> {
    if let Some(rest) = value.strip_prefix('?') {
        let truth = rest.starts_with('1');
        return Some((Item::Boolean(truth), rest.strip_prefix(['0', '1'])?));
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
        let (digits, rest) = value.split_at(end);
        return Some((Item::Integer(digits.parse().ok()?), rest));
    };
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((Item::Text(text), characters.as_str())),
            '\\' => text.push(characters.next().filter(|c| matches!(c, '"' | '\\'))?),
            plain @ ' '..='~' => text.push(plain),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_s_context_is_read() {
        let text = r#"merchant="shop", agent="a\"b", proof="signed", key="k", token="vt_1", claim="c", amount=830, currency="usd", attempt=2, review"#;
        let context = Context::parse(text).unwrap();
        assert_eq!((context.agent.as_str(), context.amount, context.attempt), ("a\"b", Some(830), Some(2)));
        assert!(context.review);
        let without = text.replace("review", "review=?0");
        assert!(!Context::parse(&without).unwrap().review);
    }

    #[test]
    fn what_is_malformed_is_not_read() {
        let good = r#"merchant="m", agent="a", proof="p""#;
        assert!(Context::parse(good).is_some());
        for bad in [
            "",
            "merchant=\"m\"",
            &format!("{good},"),
            &format!("{good}, agent=\"b\""),
            &format!("{good};x"),
            &good.replace("\"p\"", "\"p"),
        ] {
            assert!(Context::parse(bad).is_none(), "{bad}");
        }
    }
}
