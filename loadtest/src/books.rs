//! Agents' books against the merchant's ledger: a fast wrong answer is a failed run.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::drive::Window;
use crate::merchant::{Call, Ledger, Paid};

/// A page of the books: opened before a window, held against the ledger after it.
pub struct Page<'a> {
    ledger: &'a Ledger,
    before: HashMap<Call, u64>,
}

impl<'a> Page<'a> {
    /// Opens a page. Whatever the ledger holds of earlier charges is forgotten.
    pub fn open(ledger: &'a Ledger) -> Self {
        drop(ledger.take());
        Self { ledger, before: ledger.all_calls() }
    }

    /// Holds the ledger against what agents were told: each charge arrived exactly once, with the
    /// body the agent sent, nothing else was charged, and no answer of the merchant's was given
    /// without asking it. `vouched` is whether a gateway had to vouch for each charge.
    ///
    /// # Errors
    /// What is wrong, when anything is.
    pub fn balance(self, window: &Window, vouched: bool) -> Result<()> {
        if window.failed > 0 {
            bail!("{} wrong answers, such as:\n  {}", window.failed, window.failures.join("\n  "));
        }
        for (call, answered) in &window.reached {
            let before = self.before.get(call).copied().unwrap_or_default();
            let asked = self.ledger.calls(*call).saturating_sub(before);
            if asked < *answered {
                bail!("{answered} answers to {call:?}, for which the merchant was asked {asked} times");
            }
        }
        compare(window, self.ledger.take(), vouched)
    }
}

fn compare(window: &Window, mut ledger: HashMap<String, Paid>, vouched: bool) -> Result<()> {
    for charge in &window.charges {
        let Some(paid) = ledger.remove(&charge.session) else {
            bail!("{} was answered as paid, and the merchant knows nothing of it", charge.session);
        };
        if paid.calls != 1 {
            bail!("{} reached the merchant {} times", charge.session, paid.calls);
        }
        if paid.body != charge.body {
            bail!("{} reached the merchant with another body", charge.session);
        }
        if vouched && !paid.vouched {
            bail!("{} reached the merchant without signature, grant and context", charge.session);
        }
    }
    if let Some((session, paid)) = ledger.into_iter().next() {
        bail!("the merchant was asked to charge {session}, which nobody was told of ({paid:?})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::drive::histogram;
    use crate::outcome::Charge;

    fn window(charged: &[&str]) -> Window {
        let charge = |session: &&str| Charge { session: (*session).to_owned(), body: 7 };
        Window {
            elapsed: Duration::from_secs(1),
            done: charged.len(),
            latency: histogram().unwrap(),
            failed: 0,
            failures: vec![],
            charges: charged.iter().map(charge).collect(),
            reached: HashMap::new(),
            statuses: BTreeMap::new(),
            cpu: Duration::ZERO,
            beside: Duration::ZERO,
            resident: 0,
        }
    }

    #[test]
    fn only_an_exact_ledger_balances() {
        let paid = Paid { calls: 1, body: 7, vouched: true };
        let ledger =
            |entries: &[(&str, Paid)]| entries.iter().map(|(id, paid)| ((*id).to_owned(), *paid)).collect();
        let check = |entries: &[(&str, Paid)]| compare(&window(&["a", "b"]), ledger(entries), true).is_ok();
        assert!(check(&[("a", paid), ("b", paid)]));
        assert!(!check(&[("a", paid)]), "one is missing");
        assert!(!check(&[("a", paid), ("b", paid), ("c", paid)]), "one was never sent");
        assert!(!check(&[("a", paid), ("b", Paid { calls: 2, ..paid })]), "one came twice");
        assert!(!check(&[("a", paid), ("b", Paid { body: 8, ..paid })]), "one was changed");
        assert!(!check(&[("a", paid), ("b", Paid { vouched: false, ..paid })]), "one was not vouched for");
    }

    #[test]
    fn a_wrong_answer_or_one_from_nowhere_does_not_balance() {
        let ledger = Ledger::default();
        assert!(Page::open(&ledger).balance(&window(&[]), true).is_ok());
        assert!(Page::open(&ledger).balance(&Window { failed: 1, ..window(&[]) }, true).is_err());
        let reached = HashMap::from([(Call::Get, 1)]);
        assert!(Page::open(&ledger).balance(&Window { reached, ..window(&[]) }, true).is_err());
    }
}
