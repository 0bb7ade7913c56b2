//! From facts to a verdict: every rule is asked, the gravest enforced answer decides.

use super::rules::RULES;
use super::{Facts, Settings};

/// What a rule asks for, from lightest to gravest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Decision {
    /// The operation proceeds; the merchant is told to look (`review` in `Countersign-Context`).
    Review,
    /// The operation is refused.
    Deny,
}

impl Decision {
    /// The name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Deny => "deny",
        }
    }
}

/// Whether a rule decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// It does.
    Enforced,
    /// It only reports.
    Shadow,
}

impl Mode {
    /// The name in logs and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Enforced => "enforced",
            Self::Shadow => "shadow",
        }
    }
}

/// A rule that spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Which rule.
    pub rule: &'static str,
    /// Why: stable, fit for an error answer and a metric.
    pub code: &'static str,
    /// Whether it counts.
    pub mode: Mode,
    /// What it asks for.
    pub decision: Decision,
}

/// Proof that the rules let an operation proceed. Made only by [`evaluate`].
#[derive(Debug)]
pub(crate) struct Cleared {
    review: bool,
    hits: Vec<Hit>,
}

impl Cleared {
    /// Whether an enforced rule asks the merchant to look.
    pub(crate) const fn review(&self) -> bool {
        self.review
    }

    /// The rules that spoke, shadow included.
    pub(crate) fn hits(&self) -> &[Hit] {
        &self.hits
    }
}

/// The rules refuse an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("refused by the fraud rule {}", by.rule)]
pub(crate) struct Denied {
    /// The first enforced rule that denied.
    pub by: Hit,
    /// Every rule that spoke, shadow included.
    pub hits: Vec<Hit>,
}

/// Asks every rule.
///
/// # Errors
/// [`Denied`] when an enforced rule denies.
pub(crate) fn evaluate(facts: &Facts<'_>, settings: &Settings) -> Result<Cleared, Denied> {
    let hits: Vec<Hit> = RULES
        .iter()
        .filter_map(|rule| {
            let (decision, code) = (rule.judge)(facts, settings)?;
            let mode = if (rule.in_shadow)(settings) { Mode::Shadow } else { Mode::Enforced };
            Some(Hit { rule: rule.name, code, mode, decision })
        })
        .collect();
    let enforced = |wanted| move |hit: &&Hit| hit.mode == Mode::Enforced && hit.decision == wanted;
    if let Some(by) = hits.iter().find(enforced(Decision::Deny)) {
        return Err(Denied { by: *by, hits });
    }
    let review = hits.iter().any(|hit| enforced(Decision::Review)(&hit));
    Ok(Cleared { review, hits })
}
