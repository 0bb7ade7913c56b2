//! What `idempotency = "keys"` promises: one key is charged once, whatever becomes of the answers.

use std::collections::BTreeSet;
use std::io;
use std::pin::pin;
use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, sleep_until};

use crate::conformance::bodies;
use crate::conformance::caller::{new_key, new_token};
use crate::conformance::report::Level::{Keys, Must};
use crate::conformance::report::{Case, Met, Report, Unmet, otherwise, skipped};
use crate::conformance::shopper::{Basket, Payment, Shopper, flat, is_at_work, order_of, ordered, told};
use crate::conformance::till::Manner;
use crate::quickstart::client::Answer;

const CREATED_AGAIN: Case = Case {
    name: "create_replay",
    level: Keys,
    expected: "the same key and body again: the same status and session (rfc.agentic_checkout §6.3)",
};
const CREATED_OTHERWISE: Case = Case {
    name: "create_changed",
    level: Must,
    expected: "the same key with another body: 422 and a flat error (rfc.agentic_checkout §6.4)",
};
const COMPLETED_AGAIN: Case = Case {
    name: "complete_replay",
    level: Keys,
    expected: "the same key and body again: the same order, and no card fetched",
};
const COMPLETED_OTHERWISE: Case = Case {
    name: "complete_changed",
    level: Must,
    expected: "the same key with another token: 422, no card fetched",
};
const LOST: Case = Case {
    name: "lost_answer",
    level: Keys,
    expected: "the connection ends before the answer, the same key comes again: one order",
};
const CONCURRENT: Case = Case {
    name: "concurrent_completes",
    level: Keys,
    expected: "the same key comes again while the first is at work, after the deadline for its answer: 409 \
               idempotency_in_flight or the first's own answer, one order, the card fetched once",
};

/// How long a merchant may take to ask for a card again that it is about to charge a second time.
const AGAIN: Duration = Duration::from_secs(2);
/// Between two looks at a session.
const PAUSE: Duration = Duration::from_millis(250);

/// Of create.
pub(super) async fn of_create(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    let (replayed, changed) = match created_twice(shopper).await {
        Ok(both) => both,
        Err(Unmet::Otherwise(why) | Unmet::Skipped(why)) => (skipped(why.clone()), skipped(why)),
    };
    report.note(CREATED_AGAIN, replayed)?;
    report.note(CREATED_OTHERWISE, changed).map(|_| ())
}

async fn created_twice(shopper: &Shopper) -> Result<(Met, Met), Unmet> {
    let (key, body) = (new_key()?, shopper.checkout(shopper.caller.version));
    let post = async |body: &serde_json::Value| {
        let (method, path) = (Method::POST, "/checkout_sessions");
        let request = shopper.caller.request(method, path, body.to_string(), Some(&key))?;
        shopper.caller.send(request).await
    };
    let (first, second) = (post(&body).await?, post(&body).await?);
    let is_same = first.status == second.status && first.text("/id") == second.text("/id");
    let sessions = [&first, &second].map(|answer| answer.text("/id").unwrap_or_default()).join(", then ");
    let replayed =
        if is_same { Ok(told(&second)) } else { otherwise(format!("{} {sessions}", told(&second))) };
    let mut other = body;
    if let Some(members) = other.as_object_mut() {
        members.insert("buyer".to_owned(), bodies::another_buyer());
    }
    let changed = flat(&post(&other).await?, &[422]);
    Ok((replayed, changed))
}

/// Of complete.
pub(super) async fn of_complete(shopper: &Shopper, report: &mut Report<'_>) -> io::Result<()> {
    let (replayed, changed) = match completed_twice(shopper).await {
        Ok(both) => both,
        Err(Unmet::Otherwise(why) | Unmet::Skipped(why)) => (skipped(why.clone()), skipped(why)),
    };
    report.note(COMPLETED_AGAIN, replayed)?;
    report.note(COMPLETED_OTHERWISE, changed)?;
    report.note(LOST, lost(shopper).await)?;
    report.note(CONCURRENT, concurrent(shopper).await).map(|_| ())
}

async fn completed_twice(shopper: &Shopper) -> Result<(Met, Met), Unmet> {
    let basket = shopper.basket().await?;
    let (mut payment, first) = shopper.pay(&basket, shopper.wish.cards.good, Manner::Give).await?;
    let order = ordered(&first)?;
    let second = shopper.caller.send(shopper.complete(&basket, &payment, 2)?).await?;
    let fetched = shopper.till.asked_for(payment.token.as_str()).len();
    let replayed = match ordered(&second) {
        Ok(other) if other != order => otherwise(format!("charged twice: orders {order} and {other}")),
        Ok(_) if fetched > 1 => {
            otherwise(format!("{}, and the card was fetched {fetched} times", told(&second)))
        }
        Ok(_) => Ok(told(&second)),
        Err(unmet) => Err(unmet),
    };
    payment.token = new_token()?;
    payment.body = shopper.body_with(&basket, &payment.token);
    let third = shopper.caller.send(shopper.complete(&basket, &payment, 1)?).await?;
    let changed = match order_of(&third) {
        Some(other) if other != order => otherwise(format!("charged twice: orders {order} and {other}")),
        Some(_) | None if !shopper.till.asked_for(payment.token.as_str()).is_empty() => {
            otherwise(format!("{}, and the card was asked for", told(&third)))
        }
        Some(_) | None => flat(&third, &[422]),
    };
    Ok((replayed, changed))
}

/// Sends a complete again until its answer is more than that it is under way.
async fn repeated(shopper: &Shopper, basket: &Basket, payment: &Payment) -> Result<Answer, Unmet> {
    let patience = Instant::now() + shopper.caller.merchant.deadlines.total;
    let mut attempt = 2;
    loop {
        let answer = shopper.caller.send(shopper.complete(basket, payment, attempt)?).await?;
        if !is_at_work(&answer) || Instant::now() > patience {
            return Ok(answer);
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
}

async fn lost(shopper: &Shopper) -> Met {
    let basket = shopper.basket().await?;
    let payment = shopper.token_for(&basket, shopper.wish.cards.good, Manner::Give)?;
    let token = payment.token.as_str();
    let within = shopper.caller.merchant.deadlines.first_byte;
    // Dropped with its connection once the card is on its way.
    tokio::select! {
        _ = shopper.caller.send(shopper.complete(&basket, &payment, 1)?) => {}
        _ = shopper.till.came(token, 1, within) => {}
    }
    let mut orders = BTreeSet::new();
    let patience = Instant::now() + within;
    while orders.is_empty() && Instant::now() < patience {
        sleep(PAUSE).await;
        orders.extend(order_of(&shopper.look_at(&basket.session).await?));
    }
    let fetched_before = shopper.handed_out(&payment.token);
    let was_ordered = !orders.is_empty();
    let again = repeated(shopper, &basket, &payment).await?;
    orders.extend(order_of(&again));
    orders.extend(order_of(&shopper.look_at(&basket.session).await?));
    one_order(&orders)?;
    if was_ordered && shopper.handed_out(&payment.token) > fetched_before {
        return otherwise("charged twice: there was an order, and the card was fetched again");
    }
    ordered(&again).map(|_| told(&again))
}

fn one_order(orders: &BTreeSet<String>) -> Result<(), Unmet> {
    if orders.len() > 1 {
        let orders: Vec<&str> = orders.iter().map(String::as_str).collect();
        return otherwise(format!("charged twice: orders {} of one key", orders.join(" and ")));
    }
    Ok(())
}

/// What came of a repeat while the first was kept waiting for its card.
struct Overlap {
    second: Result<Answer, Unmet>,
    /// The card was asked for again although the first request for it was still open.
    began_again: bool,
    /// The first request for it was given up by the merchant before.
    gave_up: bool,
}

async fn concurrent(shopper: &Shopper) -> Met {
    let basket = shopper.basket().await?;
    let payment = shopper.token_for(&basket, shopper.wish.cards.good, Manner::Hold)?;
    let deadlines = shopper.caller.merchant.deadlines;
    let patience = deadlines.first_byte + deadlines.total + AGAIN;
    let first = shopper.caller.send_within(shopper.complete(&basket, &payment, 1)?, patience);
    let (first, overlap) = tokio::join!(first, overlapping(shopper, &basket, &payment, patience));
    // Nobody is left waiting, whatever was found.
    shopper.till.release();
    let Some(Overlap { second, began_again, gave_up }) = overlap? else {
        return skipped("it answered without fetching the card, so that its answer could not be delayed");
    };
    let last = repeated(shopper, &basket, &payment).await?;
    let seen = shopper.look_at(&basket.session).await?;
    let answers = [first.as_ref().ok(), second.as_ref().ok(), Some(&last), Some(&seen)];
    let orders: BTreeSet<String> = answers.into_iter().flatten().filter_map(order_of).collect();
    one_order(&orders)?;
    if began_again {
        return otherwise(
            "charges twice: it fetched the card again, for the same key, while the first complete was at work; \
             take note of the key before you charge",
        );
    }
    if gave_up {
        return skipped(
            "it gave up fetching the card before the deadline; try with a shorter deadlines.first_byte",
        );
    }
    let second = second?;
    if !is_at_work(&second) && ordered(&second).is_err() {
        return otherwise(format!("to the second {}, while the first was charged", told(&second)));
    }
    ordered(&last)?;
    Ok(format!("to the second {}, then {}", told(&second), told(&last)))
}

/// Repeats a complete once the deadline for the first one's answer is over, and lets the first go on after.
async fn overlapping(
    shopper: &Shopper,
    basket: &Basket,
    payment: &Payment,
    patience: Duration,
) -> Result<Option<Overlap>, Unmet> {
    let token = payment.token.as_str();
    let within = shopper.caller.merchant.deadlines.first_byte;
    let deadline = Instant::now() + within;
    if !shopper.till.came(token, 1, within).await {
        shopper.till.release();
        return Ok(None);
    }
    sleep_until(deadline).await;
    let gave_up = || shopper.till.asked_for(token).first().is_some_and(|asked| asked.hung_up);
    let gave_up_before = gave_up();
    let mut second = pin!(shopper.caller.send_within(shopper.complete(basket, payment, 2)?, patience));
    let asked_before = shopper.till.asked_for(token).len();
    let (answered, asked_again) = tokio::select! {
        answer = &mut second => (Some(answer), false),
        came = shopper.till.came(token, asked_before + 1, AGAIN) => (None, came),
    };
    let gave_up = gave_up_before || gave_up();
    shopper.till.release();
    let second = match answered {
        Some(answer) => answer,
        None => second.await,
    };
    Ok(Some(Overlap { second, began_again: asked_again && !gave_up, gave_up }))
}
