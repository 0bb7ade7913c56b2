//! What was looked at and what was seen: a table for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// What a look showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    /// As it should be.
    Good,
    /// It works, and deserves a second look.
    Warning,
    /// It does not work.
    Fault,
}

impl Health {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// One look.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// Whom or what it is about: `merchant shoes`.
    pub subject: String,
    /// What was looked at.
    pub check: &'static str,
    pub health: Health,
    /// What was seen.
    pub told: String,
}

/// Makes findings about one subject.
#[derive(Clone, Debug)]
pub(super) struct Subject(pub String);

impl Subject {
    pub(super) fn good(&self, check: &'static str, told: impl Into<String>) -> Finding {
        self.finding(check, Health::Good, told.into())
    }

    pub(super) fn doubtful(&self, check: &'static str, told: impl Into<String>) -> Finding {
        self.finding(check, Health::Warning, told.into())
    }

    pub(super) fn faulty(&self, check: &'static str, told: impl Into<String>) -> Finding {
        self.finding(check, Health::Fault, told.into())
    }

    fn finding(&self, check: &'static str, health: Health, told: String) -> Finding {
        Finding { subject: self.0.clone(), check, health, told }
    }
}

/// Writes what was found; whether there is no fault.
pub(super) fn report(findings: &[Finding], as_json: bool, out: &mut dyn Write) -> io::Result<bool> {
    let counted = |health| findings.iter().filter(|finding| finding.health == health).count();
    let [faults, warnings] = [Health::Fault, Health::Warning].map(counted);
    let is_well = faults == 0;
    if as_json {
        #[derive(Serialize)]
        struct Report<'a> {
            healthy: bool,
            findings: &'a [Finding],
        }
        serde_json::to_writer(&mut *out, &Report { healthy: is_well, findings })?;
        writeln!(out)?;
        return Ok(is_well);
    }
    let width = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or(0);
    let (subjects, checks) = (width(|one| one.subject.len()), width(|one| one.check.len()));
    for Finding { subject, check, health, told } in findings {
        writeln!(out, "{:<8} {subject:<subjects$}  {check:<checks$}  {told}", health.word())?;
    }
    writeln!(out, "\n{} looks: {faults} faults, {warnings} warnings", findings.len())?;
    Ok(is_well)
}
