//! What was expected of each case and what was met: lines for people as they come, JSON for programs at the end.

use std::io::{self, Write};

use serde::Serialize;

/// Cases of [`Level::Keys`]: a merchant honours keys that has passed all of them.
const CASES_OF_KEYS: usize = 4;

/// What a case came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It is as expected.
    Passed,
    /// It is not, and must be.
    Failed,
    /// It is not, and should be.
    Advised,
    /// It could not be tried.
    Skipped,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "FAILED",
            Self::Advised => "advised",
            Self::Skipped => "skipped",
        }
    }
}

/// How much a case matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Who does otherwise does wrong.
    Must,
    /// What ACP recommends, or whoever stands behind this gateway is asked for.
    Should,
    /// What `idempotency = "keys"` promises.
    Keys,
}

/// What there is to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub name: &'static str,
    pub level: Level,
    pub expected: &'static str,
}

/// A case that is not as expected.
#[derive(Debug)]
pub(crate) enum Unmet {
    /// What was met instead.
    Otherwise(String),
    /// Why it could not be tried.
    Skipped(String),
}

/// What was met: as expected, or not.
pub(super) type Met = Result<String, Unmet>;

/// Not as expected.
pub(super) fn otherwise<T>(met: impl Into<String>) -> Result<T, Unmet> {
    Err(Unmet::Otherwise(met.into()))
}

/// Not tried.
pub(super) fn skipped<T>(why: impl Into<String>) -> Result<T, Unmet> {
    Err(Unmet::Skipped(why.into()))
}

/// A case and what it came to.
#[derive(Serialize)]
struct Finding {
    case: &'static str,
    verdict: Verdict,
    expected: &'static str,
    met: String,
}

/// All that was found.
pub(super) struct Report<'a> {
    /// Where lines go; nowhere where JSON is wanted.
    lines: Option<&'a mut dyn Write>,
    /// Whether keys are said to be honoured: then to break that promise is a fault.
    keys_promised: bool,
    findings: Vec<Finding>,
    /// Cases of keys that passed.
    keys_held: usize,
}

/// Who was tried.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Whom<'a> {
    /// A merchant, in a version.
    Merchant { merchant: &'a str, version: &'a str },
    /// An agent.
    Agent {},
}

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    whom: Whom<'a>,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency: Option<&'static str>,
    cases: &'a [Finding],
}

impl<'a> Report<'a> {
    pub(super) fn to(lines: Option<&'a mut dyn Write>, keys_promised: bool) -> Self {
        Self { lines, keys_promised, findings: Vec::new(), keys_held: 0 }
    }

    /// Notes what a case came to; whether it is as expected.
    pub(super) fn note(&mut self, case: Case, met: Met) -> io::Result<bool> {
        let (verdict, met) = match met {
            Ok(met) => (Verdict::Passed, met),
            Err(Unmet::Skipped(why)) => (Verdict::Skipped, why),
            Err(Unmet::Otherwise(met)) => match case.level {
                Level::Must => (Verdict::Failed, met),
                Level::Keys if self.keys_promised => (Verdict::Failed, met),
                Level::Keys | Level::Should => (Verdict::Advised, met),
            },
        };
        // What could not be tried proves nothing either.
        self.keys_held += usize::from(case.level == Level::Keys && verdict == Verdict::Passed);
        if let Some(out) = &mut self.lines {
            writeln!(out, "{:<8} {:<22} {}", verdict.word(), case.name, case.expected)?;
            if verdict != Verdict::Passed {
                writeln!(out, "{:<8} {:<22} met: {met}", "", "")?;
            }
            out.flush()?;
        }
        let Case { name, expected, .. } = case;
        self.findings.push(Finding { case: name, verdict, expected, met });
        Ok(verdict == Verdict::Passed)
    }

    /// What its entry may say of keys.
    pub(super) const fn idempotency(&self) -> &'static str {
        if self.keys_held == CASES_OF_KEYS { "keys" } else { "none" }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == verdict).count()
    }

    /// The end of it: whether nothing failed.
    pub(super) fn conclude(self, whom: Whom<'_>, json: &mut dyn Write) -> io::Result<bool> {
        let passed = self.count(Verdict::Failed) == 0;
        let [met, failed, advised, skipped] =
            [Verdict::Passed, Verdict::Failed, Verdict::Advised, Verdict::Skipped].map(|one| self.count(one));
        let idempotency = match whom {
            Whom::Merchant { .. } => Some(self.idempotency()),
            Whom::Agent {} => None,
        };
        match self.lines {
            Some(out) => {
                writeln!(out, "\n{met} passed, {failed} failed, {advised} advised, {skipped} skipped")?;
                if let Some(word) = idempotency {
                    writeln!(out, "the merchant's entry may say: idempotency = \"{word}\"")?;
                }
            }
            None => {
                let whole = Whole { whom, passed, idempotency, cases: &self.findings };
                serde_json::to_writer(&mut *json, &whole)?;
                writeln!(json)?;
            }
        }
        Ok(passed)
    }
}
