//! One token survives a decline and 3-D Secure, and ends in an order.

use super::Narrator;
use super::cast::{Cast, HOMEGOODS, Trouble, dollars, ensure, ensure_status, expect, path};
use crate::quickstart::order;
use crate::quickstart::shop::HESITANT_CARD;

pub(super) async fn tell(cast: &Cast, say: &mut Narrator<'_>) -> Result<(), Trouble> {
    let agent = &cast.concierge;
    let charges = cast.homegoods.charges().len();
    let basket = cast.basket(agent, HOMEGOODS, "item_notebook").await?;
    let token = cast.token(HESITANT_CARD, &basket, basket.total).await?;
    say.step(&format!(
        "A linen notebook, {} with tax and standard shipping, and a token for exactly that; the card ends 9995.",
        dollars(basket.total)
    ))?;
    let complete = path(HOMEGOODS, &basket.session, "/complete");

    let declined = agent.post(&complete, &order::payment(&token)).send().await;
    let declined = expect("the first attempt is answered", declined, 200)?;
    ensure_status(&declined, "ready_for_payment")?;
    ensure(
        "the shop says that the payment was declined",
        declined.text("/messages/0/code").as_deref() == Some("payment_declined"),
    )?;
    say.step("First attempt: the shop redeems the card and its bank declines. A 200 that is no charge: the token is released, for this checkout only.")?;

    let secure = agent.post(&complete, &order::payment(&token)).send().await;
    let secure = expect("the second attempt is answered", secure, 200)?;
    ensure_status(&secure, "authentication_required")?;
    say.step("Second attempt: the bank wants 3-D Secure. Still no charge; the token is released again.")?;

    let completed = agent.post(&complete, &order::authenticated_payment(&token)).send().await;
    let completed = expect("the third attempt is answered", completed, 200)?;
    ensure_status(&completed, "completed")?;
    let ledger = cast.homegoods.charges();
    let charge = ledger.last().filter(|charge| charge.session == basket.session);
    let charge = charge.ok_or_else(|| Trouble::Step("the shop charged nothing".to_owned()))?;
    let charged_once = ledger.len() == charges + 1 && charge.amount == basket.total && charge.token == token;
    ensure("the shop charged the total once", charged_once)?;
    let redeemed = cast.homegoods.redeemed().iter().filter(|redeem| redeem.token == token).count();
    ensure("the card was redeemed once", redeemed == 1)?;
    say.step(&format!(
        "Third attempt, with the result of 3-D Secure: {} charged to the card ending {}, order {}. The card \
         left the vault once; three attempts are the most a token has.",
        dollars(charge.amount),
        charge.last4,
        charge.order,
    ))?;

    let state = agent.get(format!("/agentic_commerce/issued_tokens/{token}")).send().await;
    let state = expect("the token's state is read", state, 200)?;
    let status = state.text("/status").unwrap_or_default();
    ensure(&format!("the token is consumed (it is {status})"), status == "consumed")?;
    say.step("The token's state, for the agent that minted it: consumed.")?;
    Ok(())
}
