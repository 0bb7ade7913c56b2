//! Create, update, mint, complete; and the same complete once more.

use super::Narrator;
use super::cast::{Cast, HOMEGOODS, MINT, Trouble, amount, dollars, ensure, ensure_status, expect, id, path};
use crate::quickstart::order::{self, Mandate};
use crate::quickstart::shop::{CallKind, GOOD_CARD};

/// What was bought.
pub(super) struct Bought {
    pub session: String,
    pub token: String,
}

pub(super) async fn tell(cast: &Cast, say: &mut Narrator<'_>) -> Result<Bought, Trouble> {
    let agent = &cast.concierge;
    let body = order::checkout(&[("item_lamp", 1)]);
    let created = agent.post(format!("/m/{HOMEGOODS}/checkout_sessions"), &body).send().await;
    let created = expect("a checkout is opened", created, 201)?;
    ensure_status(&created, "not_ready_for_payment")?;
    let session = id(&created)?;
    say.step(&format!(
        "The agent opens a checkout at homegoods: a walnut desk lamp, {}. The shop needs an address first.",
        dollars(amount(&created, "subtotal")?)
    ))?;

    let update = order::delivery("ship_express", "item_lamp");
    let updated = agent.post(path(HOMEGOODS, &session, ""), &update).send().await;
    let updated = expect("address and shipping are set", updated, 200)?;
    ensure_status(&updated, "ready_for_payment")?;
    let total = amount(&updated, "total")?;
    say.step(&format!(
        "It adds an address and express shipping: lamp {} + tax {} + shipping {} = {}. Ready for payment.",
        dollars(amount(&updated, "subtotal")?),
        dollars(amount(&updated, "tax")?),
        dollars(amount(&updated, "fulfillment")?),
        dollars(total),
    ))?;

    let mandate =
        Mandate { card: GOOD_CARD, merchant: HOMEGOODS, session: &session, most: total, until: cast.until() };
    let minted = agent.post(MINT, &order::mandate(&mandate)).send().await;
    let minted = expect("a token is minted", minted, 201)?;
    let token = id(&minted)?;
    say.step(&format!(
        "It hands the card 4242…4242 to the gateway and gets a token for it: at most {}, at homegoods, for \
         this checkout, by this agent, once, within 30 minutes.",
        dollars(total)
    ))?;
    say.detail(&token)?;

    let complete = agent.post(path(HOMEGOODS, &session, "/complete"), &order::payment(&token)).prepare();
    let complete = complete.map_err(|error| Trouble::Step(format!("a complete is signed: {error}")))?;
    let completed = expect("the token is spent", agent.send(&complete).await, 200)?;
    ensure_status(&completed, "completed")?;
    let charges = cast.homegoods.charges();
    let charge = charges.last().filter(|charge| charge.session == session);
    let charge = charge.ok_or_else(|| Trouble::Step("the shop charged nothing".to_owned()))?;
    ensure("the shop charged the total", charge.amount == total && charge.last4 == "4242")?;
    let redeemed = cast.homegoods.redeemed();
    let redeemed: Vec<_> = redeemed.iter().filter(|redeem| redeem.token == token).collect();
    ensure(
        "the card was redeemed once, for the claim that was charged",
        matches!(redeemed.as_slice(), [once] if once.claim == charge.claim && once.amount == total),
    )?;
    ensure(
        "the order is the one in the shop's ledger",
        completed.text("/order/id").as_ref() == Some(&charge.order),
    )?;
    let received = cast.homegoods.calls_of(CallKind::Complete);
    ensure(
        "the shop verified signature, context and grant, and got no card",
        received.last().is_some_and(|call| {
            let body = String::from_utf8_lossy(&call.body);
            call.distrust.is_none() && body.contains(&token) && !body.contains(GOOD_CARD)
        }),
    )?;
    say.step(&format!(
        "It completes with the token. The shop checks the gateway's signature and grant, redeems the card for \
         this one claim, and charges {} to the card ending {}: order {}.",
        dollars(charge.amount),
        charge.last4,
        charge.order,
    ))?;

    let again = expect("the same complete is sent again", agent.send(&complete).await, 200)?;
    ensure("it is marked as a replay", again.header("idempotent-replayed") == Some("true"))?;
    ensure("it is the same answer", again.body == completed.body)?;
    ensure("the shop was charged once", cast.homegoods.charges().len() == charges.len())?;
    ensure("the shop was asked once", cast.homegoods.calls_of(CallKind::Complete).len() == received.len())?;
    say.step("It sends the same complete again, as after a lost answer: the same answer comes back, marked as a replay. The shop hears nothing, nobody pays twice.")?;
    Ok(Bought { session, token })
}
