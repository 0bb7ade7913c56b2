//! A payment that is accepted, one that is declined, and one that wants 3-D Secure.

use std::io;

use http::HeaderName;

use crate::conformance::bodies;
use crate::conformance::caller::new_key;
use crate::conformance::report::Level::{Must, Should};
use crate::conformance::report::{Case, Met, Report, otherwise, skipped};
use crate::conformance::shopper::{Basket, Payment, Shopper, flat, is_charged, order_of, ordered, told};
use crate::conformance::till::Manner;
use crate::quickstart::client::Answer;

const COMPLETE: Case =
    Case { name: "complete", level: Must, expected: "200, completed, and an order with an id" };
const REDEEM: Case = Case {
    name: "redeem",
    level: Must,
    expected: "the card fetched once, for the claim that is paid, at most for the total, before the answer",
};
const AGAIN: Case = Case {
    name: "second_payment",
    level: Must,
    expected: "to another token and key, once it is paid: no card fetched, no other order",
};
const SIGNATURE: Case = Case {
    name: "signature",
    level: Should,
    expected: "to a complete with another request's signature 401 or 403, and no card fetched",
};
const DECLINE: Case = Case {
    name: "decline",
    level: Must,
    expected: "a declined card: no order, by a 2xx that shows the session open or by a 4xx",
};
const AFTER_DECLINE: Case = Case {
    name: "after_decline",
    level: Should,
    expected: "another token with a good card pays for the same session",
};
const SECURE: Case = Case {
    name: "three_d_secure",
    level: Must,
    expected: "authentication_required with authentication_metadata; then, with its result, the same token pays, \
               and its card is not fetched again",
};

/// A payment, and what may not follow it.
pub(super) async fn accepted(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    let paid = async {
        let basket = shopper.basket().await?;
        let (payment, answer) = shopper.pay(&basket, shopper.wish.cards.good, Manner::Give).await?;
        Ok((basket, payment, answer))
    };
    let (basket, payment, answer) = match paid.await {
        Ok(paid) => paid,
        Err(unmet) => return report.note(COMPLETE, Err(unmet)).map(|_| ()),
    };
    let order = ordered(&answer);
    let redeemed = redeemed_well(shopper, &basket, &payment);
    let again = match &order {
        Ok(order) => paid_again(shopper, &basket, order).await,
        Err(_) => skipped("there is no order"),
    };
    report.note(COMPLETE, order.map(|_| told(&answer)))?;
    report.note(REDEEM, redeemed)?;
    report.note(AGAIN, again)?;
    report.note(SIGNATURE, signed_by_another(shopper).await).map(|_| ())
}

fn redeemed_well(shopper: &Shopper, basket: &Basket, payment: &Payment) -> Met {
    let asked = shopper.till.asked_for(payment.token.as_str());
    let [once] = asked.as_slice() else { return otherwise(format!("fetched {} times", asked.len())) };
    if once.status != 200 {
        let sent = once.claim.as_deref().unwrap_or("no claim");
        return otherwise(format!("refused: {} {}; it named the claim {sent}", once.status, once.code));
    }
    let amount = once.amount.map_or(0, |money| money.amount.get());
    if amount < basket.total.amount.get() {
        return Ok(format!("fetched once, for {amount}, below the total"));
    }
    Ok(format!("fetched once, for {amount}"))
}

async fn paid_again(shopper: &Shopper, basket: &Basket, order: &str) -> Met {
    let (payment, answer) = shopper.pay(basket, shopper.wish.cards.good, Manner::Give).await?;
    let fetched = shopper.handed_out(&payment.token);
    let is_another = order_of(&answer).is_some_and(|other| other != order);
    if fetched > 0 || is_another {
        return otherwise(format!("charged twice: {}, after order {order}", told(&answer)));
    }
    Ok(told(&answer))
}

async fn signed_by_another(shopper: &Shopper) -> Met {
    let basket = shopper.basket().await?;
    let good = shopper.wish.cards.good;
    let (payment, other) =
        (shopper.token_for(&basket, good, Manner::Give)?, shopper.token_for(&basket, good, Manner::Give)?);
    let mut request = shopper.complete(&basket, &payment, 1)?;
    let others = shopper.complete(&basket, &other, 1)?;
    for name in ["signature", "signature-input"].map(HeaderName::from_static) {
        if let Some(value) = others.headers().get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = shopper.caller.send(request).await?;
    match shopper.handed_out(&payment.token) {
        0 => flat(&answer, &[401, 403]),
        _ => otherwise(format!("{}, and the card was fetched", told(&answer))),
    }
}

/// Payments that do not go through at once.
pub(super) async fn refused(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    let tried = async {
        let basket = shopper.basket().await?;
        let (_, answer) = shopper.pay(&basket, shopper.wish.cards.declined, Manner::Give).await?;
        Ok((basket, answer))
    };
    match tried.await {
        Ok((basket, answer)) => {
            let declined = declined(&answer);
            let after = match &declined {
                Ok(_) => shopper
                    .pay(&basket, shopper.wish.cards.good, Manner::Give)
                    .await
                    .and_then(|(_, answer)| ordered(&answer).map(|_| told(&answer))),
                Err(_) => skipped("it was not declined"),
            };
            report.note(DECLINE, declined)?;
            report.note(AFTER_DECLINE, after)?;
        }
        Err(unmet) => {
            report.note(DECLINE, Err(unmet))?;
        }
    }
    report.note(SECURE, secured(shopper).await).map(|_| ())
}

/// As the gateway reads it: a 5xx says that nobody knows.
fn declined(answer: &Answer) -> Met {
    let is_no = answer.status.is_success() || answer.status.is_client_error();
    if is_no && !is_charged(answer) { Ok(told(answer)) } else { otherwise(told(answer)) }
}

async fn secured(shopper: &Shopper) -> Met {
    let basket = shopper.basket().await?;
    let (mut payment, answer) = shopper.pay(&basket, shopper.wish.cards.secure, Manner::Give).await?;
    if is_charged(&answer) {
        return skipped("it took the card without asking; give one that needs it with --secure-card");
    }
    if answer.text("/status").as_deref() != Some("authentication_required") {
        return otherwise(told(&answer));
    }
    if answer.json().get("authentication_metadata").is_none() {
        return otherwise(format!("{}, without authentication_metadata", told(&answer)));
    }
    payment.claim = new_key()?;
    payment.body = bodies::authenticated(payment.body);
    shopper.till.claim(payment.token.as_str(), &payment.claim);
    let answer = shopper.caller.send(shopper.complete(&basket, &payment, 1)?).await?;
    let fetched = shopper.till.asked_for(payment.token.as_str()).len();
    match ordered(&answer) {
        Ok(order) => Ok(format!("authentication_required, then order {order}")),
        Err(_) if fetched > 1 => otherwise(format!(
            "{}; it fetched the card again, which is handed out once: keep it",
            told(&answer)
        )),
        Err(_) => otherwise(format!("after 3-D Secure {}", told(&answer))),
    }
}
