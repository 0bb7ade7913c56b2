//! Agents' books against the merchant's ledger: a fast wrong answer is a failed run.

use std::collections::HashMap;

use anyhow::{Result, bail};

use crate::drive::{Job, Window};
use crate::merchant::Paid;

/// Holds the ledger of one window against its jobs, of which `window.done` were sent: each charge
/// arrived exactly once, with the body the agent sent, and nothing else arrived. `vouched` is
/// whether a gateway had to vouch for each.
///
/// # Errors
/// What is wrong, when anything is.
pub fn balance(
    jobs: &[Job],
    window: &Window,
    mut ledger: HashMap<String, Paid>,
    vouched: bool,
) -> Result<()> {
    if window.failed > 0 {
        bail!("{} wrong answers, such as:\n  {}", window.failed, window.failures.join("\n  "));
    }
    for charge in jobs.iter().take(window.done).filter_map(|job| job.charge.as_ref()) {
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
        bail!("the merchant was asked to charge {session}, which nobody sent ({paid:?})");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::connection::Wire;
    use crate::drive::{Charge, histogram};

    fn job(session: &str) -> Job {
        let charge = Some(Charge { session: session.to_owned(), body: 7 });
        Job { wire: Wire::One("".into()), status: 200, contains: String::new(), charge }
    }

    fn window(done: usize) -> Window {
        Window {
            elapsed: Duration::from_secs(1),
            done,
            latency: histogram().unwrap(),
            failed: 0,
            failures: vec![],
            cpu: Duration::ZERO,
            resident: 0,
        }
    }

    #[test]
    fn only_an_exact_ledger_balances() {
        let jobs = [job("a"), job("b"), job("c")];
        let paid = Paid { calls: 1, body: 7, vouched: true };
        let ledger =
            |entries: &[(&str, Paid)]| entries.iter().map(|(id, paid)| ((*id).to_owned(), *paid)).collect();
        let check = |entries: &[(&str, Paid)]| balance(&jobs, &window(2), ledger(entries), true).is_ok();
        assert!(check(&[("a", paid), ("b", paid)]));
        assert!(!check(&[("a", paid)]), "one is missing");
        assert!(!check(&[("a", paid), ("b", paid), ("c", paid)]), "one was never sent");
        assert!(!check(&[("a", paid), ("b", Paid { calls: 2, ..paid })]), "one came twice");
        assert!(!check(&[("a", paid), ("b", Paid { body: 8, ..paid })]), "one was changed");
        assert!(!check(&[("a", paid), ("b", Paid { vouched: false, ..paid })]), "one was not vouched for");
        let wrong = Window { failed: 1, ..window(0) };
        assert!(balance(&jobs, &wrong, HashMap::new(), true).is_err(), "an answer was wrong");
    }
}
