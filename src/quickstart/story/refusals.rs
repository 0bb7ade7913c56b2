//! Everything a thief, a bug or a greedy agent might try. None of it reaches a shop's till.

use std::io;

use super::Narrator;
use super::cast::{Basket, Cast, HOMEGOODS, STATIONER, Trouble, dollars, ensure, expect, path, summary};
use super::purchase::Bought;
use crate::quickstart::agent::{AgentError, Prepared};
use crate::quickstart::client::Answer;
use crate::quickstart::order;
use crate::quickstart::shop::{CallKind, GOOD_CARD};

/// What must stay as it is while things are refused: charges and completes at both shops.
#[derive(PartialEq, Eq)]
struct Tills([usize; 4]);

impl Tills {
    fn of(cast: &Cast) -> Self {
        let [home, paper] = [&cast.homegoods, &cast.stationer];
        let completes = [home, paper].map(|shop| shop.calls_of(CallKind::Complete).len());
        let [one, two] = completes;
        Self([home.charges().len(), paper.charges().len(), one, two])
    }
}

pub(super) async fn tell(
    cast: &Cast,
    say: &mut Narrator<'_>,
    bought: Option<&Bought>,
) -> Result<(), Trouble> {
    let tills = Tills::of(cast);
    if let Some(bought) = bought {
        spent_twice(cast, say, bought).await?;
    }
    let basket = cast.basket(&cast.concierge, HOMEGOODS, "item_lamp").await?;
    let short = basket.total.saturating_sub(1);
    let token = cast.token(GOOD_CARD, &basket, short).await?;
    one_cent_over(cast, say, &basket, &token, short).await?;
    elsewhere(cast, say, &basket, &token).await?;
    changed(cast, say, &basket, &token).await?;
    replayed(cast, say).await?;
    ensure("no shop was asked to charge, and none charged", Tills::of(cast) == tills)?;
    say.step("Through all of this no shop was asked to charge anything, and none did.")?;
    Ok(())
}

async fn spent_twice(cast: &Cast, say: &mut Narrator<'_>, bought: &Bought) -> Result<(), Trouble> {
    let Bought { session, token } = bought;
    let agent = &cast.concierge;
    let again = agent.post(path(HOMEGOODS, session, "/complete"), &order::payment(token)).send().await;
    refused(say, "The token of the lamp, spent a second time.", again, 409, "checkout_session_completed")?;
    let other = cast.basket(agent, HOMEGOODS, "item_lamp").await?;
    let again = agent.post(path(HOMEGOODS, &other.session, "/complete"), &order::payment(token)).send().await;
    refused(say, "The same token, for another checkout.", again, 422, "token_unknown")
}

async fn one_cent_over(
    cast: &Cast,
    say: &mut Narrator<'_>,
    basket: &Basket,
    token: &str,
    most: u64,
) -> Result<(), Trouble> {
    let complete = path(HOMEGOODS, &basket.session, "/complete");
    let over = cast.concierge.post(complete, &order::payment(token)).send().await;
    let what =
        format!("One cent over: a checkout of {} with a token for {}.", dollars(basket.total), dollars(most));
    refused(say, &what, over, 422, "amount_exceeds_allowance")
}

async fn elsewhere(cast: &Cast, say: &mut Narrator<'_>, basket: &Basket, token: &str) -> Result<(), Trouble> {
    let payment = order::payment(token);
    let other = cast.basket(&cast.concierge, STATIONER, "item_notebook").await?;
    let complete = path(STATIONER, &other.session, "/complete");
    let there = cast.concierge.post(complete, &payment).send().await;
    refused(
        say,
        "Another merchant: a token for homegoods, spent at the stationer.",
        there,
        422,
        "token_unknown",
    )?;

    let looked = cast.stranger.get(path(HOMEGOODS, &basket.session, "")).send().await;
    let what = "Another agent's checkout: a stranger, with a credential and key of its own, reads it.";
    refused(say, what, looked, 404, "checkout_session_not_found")?;
    let complete = path(HOMEGOODS, &basket.session, "/complete");
    let paid = cast.stranger.post(complete, &payment).send().await;
    refused(say, "The stranger pays for it, with the token.", paid, 404, "checkout_session_not_found")
}

async fn changed(cast: &Cast, say: &mut Narrator<'_>, basket: &Basket, token: &str) -> Result<(), Trouble> {
    let complete = path(HOMEGOODS, &basket.session, "/complete");
    let mut payment = signed(cast.concierge.post(&complete, &order::payment(token)).prepare())?;
    payment.body = order::payment("vt_somebodyelsestoken").to_string().into();
    let answer = cast.concierge.send(&payment).await;
    let what = "A changed body: on its way somebody puts another token into a signed complete.";
    refused(say, what, answer, 401, "content_digest_mismatch")?;
    let unsigned = cast.concierge.post(&complete, &order::payment(token)).unsigned().send().await;
    let what = "A stolen credential without the key: a complete that is not signed.";
    refused(say, what, unsigned, 401, "signature_required")
}

async fn replayed(cast: &Cast, say: &mut Narrator<'_>) -> Result<(), Trouble> {
    // Where no money moves a signature may leave the body and the key uncovered.
    let call = cast
        .concierge
        .post(format!("/m/{HOMEGOODS}/checkout_sessions"), &order::checkout(&[("item_lamp", 1)]));
    let mut call = signed(call.covering(&["@method", "@authority", "@path"]).prepare())?;
    expect("a checkout is opened", cast.concierge.send(&call).await, 201)?;
    call.body = order::checkout(&[("item_lamp", 50)]).to_string().into();
    call.headers.insert("idempotency-key", http::HeaderValue::from_static("another-key"));
    call.headers.remove("content-digest");
    let what =
        "A replayed signature: one that opened a checkout for 1 lamp, overheard and put on one for 50.";
    refused(say, what, cast.concierge.send(&call).await, 401, "signature_replayed")
}

fn signed(prepared: Result<Prepared, AgentError>) -> Result<Prepared, Trouble> {
    prepared.map_err(|error| Trouble::Step(format!("a request is signed: {error}")))
}

/// Tells what was refused and how; it must be refused in just this way.
fn refused(
    say: &mut Narrator<'_>,
    what: &str,
    answer: Result<Answer, AgentError>,
    status: u16,
    code: &str,
) -> Result<(), Trouble> {
    let answer = expect(what, answer, status)?;
    ensure(&format!("{what} {code} (it is {})", summary(&answer)), answer.code().as_deref() == Some(code))?;
    let told: io::Result<()> = say.step(what).and_then(|()| say.detail(&format!("→ {}", summary(&answer))));
    Ok(told?)
}
