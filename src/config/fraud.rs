//! Reads `[fraud]`: one table a rule, each of which can be watched in shadow first.

use std::time::Duration;

use super::document::Section;
use super::values::{count, duration, flag};
use crate::fraud::{CardTesting, Declines, Settings, SharedCard, SmallAmounts, Switch, Threshold};

const SHORTEST_WINDOW: Duration = Duration::from_secs(10);
const LONGEST_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads `[fraud]`.
pub(super) fn fraud(section: &mut Section<'_>) -> Settings {
    let default = Settings::default();
    Settings {
        risk_signals: section.table("risk_signals", |rule| switch(rule, default.risk_signals)),
        agent_ceiling: section.table("agent_ceiling", |rule| switch(rule, default.agent_ceiling)),
        card_testing: section.table("card_testing", |rule| card_testing(rule, default.card_testing)),
        shared_card: section.table("shared_card", |rule| shared_card(rule, default.shared_card)),
        declines: section.table("declines", |rule| declines(rule, default.declines)),
        small_amounts: section.table("small_amounts", |rule| small_amounts(rule, default.small_amounts)),
    }
}

fn switch(rule: &mut Section<'_>, default: Switch) -> Switch {
    Switch { shadow: rule.or("shadow", default.shadow, flag) }
}

fn card_testing(rule: &mut Section<'_>, default: CardTesting) -> CardTesting {
    let window = window(rule, default.window);
    let (review_above, deny_above) = thresholds(rule, default.review_above, default.deny_above);
    CardTesting { window, review_above, deny_above, shadow: rule.or("shadow", default.shadow, flag) }
}

fn shared_card(rule: &mut Section<'_>, default: SharedCard) -> SharedCard {
    SharedCard {
        window: window(rule, default.window),
        review_above: threshold(rule, "review_above", default.review_above),
        shadow: rule.or("shadow", default.shadow, flag),
    }
}

fn declines(rule: &mut Section<'_>, default: Declines) -> Declines {
    let window = window(rule, default.window);
    let (review_above, deny_above) = thresholds(rule, default.review_above, default.deny_above);
    Declines { window, review_above, deny_above, shadow: rule.or("shadow", default.shadow, flag) }
}

fn small_amounts(rule: &mut Section<'_>, default: SmallAmounts) -> SmallAmounts {
    let at_most = rule.or("at_most", default.at_most, count(0, crate::domain::money::MAX_MINOR_UNITS));
    let window = window(rule, default.window);
    let (review_above, deny_above) = thresholds(rule, default.review_above, default.deny_above);
    SmallAmounts {
        at_most,
        window,
        review_above,
        deny_above,
        shadow: rule.or("shadow", default.shadow, flag),
    }
}

fn window(rule: &mut Section<'_>, default: Duration) -> Duration {
    rule.or("window", default, duration(SHORTEST_WINDOW, LONGEST_WINDOW))
}

fn thresholds(
    rule: &mut Section<'_>,
    review: Option<Threshold>,
    deny: Option<Threshold>,
) -> (Option<Threshold>, Option<Threshold>) {
    let review = threshold(rule, "review_above", review);
    let deny = threshold(rule, "deny_above", deny);
    if let (Some(review), Some(deny)) = (review, deny)
        && deny < review
    {
        rule.wrong("deny_above", "must not be below `review_above`");
    }
    (review, deny)
}

/// A number, or `"never"`.
fn threshold(rule: &mut Section<'_>, key: &'static str, default: Option<Threshold>) -> Option<Threshold> {
    rule.or(key, default, |value| {
        if value.text().is_ok_and(|text| text == "never") {
            return Ok(None);
        }
        let expected = format!("expected a number between 1 and {}, or \"never\"", Threshold::MAX);
        let number = count(1, Threshold::MAX.into())(value).map_err(|_| expected.clone())?;
        Threshold::new(number).map(Some).ok_or_else(|| expected.into())
    })
}
