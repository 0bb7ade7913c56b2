//! One purchase at a shop of which nothing is known but what it answers.

use super::Narrator;
use super::cast::{MINT, Trouble, amount, dollars, ensure, ensure_status, expect, id, merge, path};
use crate::domain::clock::Timestamp;
use crate::quickstart::agent::Agent;
use crate::quickstart::order::{self, Mandate};
use crate::quickstart::shop::GOOD_CARD;

/// Create, mint, complete, and the same complete once more, with a token that is good until then.
pub(super) async fn tell_purchase(
    agent: &Agent,
    shop: &str,
    item: &str,
    until: Timestamp,
    say: &mut Narrator<'_>,
) -> Result<(), Trouble> {
    let mut body = order::checkout(&[(item, 1)]);
    merge(&mut body, order::delivery("ship_standard", item));
    // Which ways of sending there are, only the shop knows.
    if let Some(members) = body.as_object_mut() {
        members.remove("selected_fulfillment_options");
    }
    let created = agent.post(format!("/m/{shop}/checkout_sessions"), &body).send().await;
    let mut ready = expect("a checkout is opened", created, 201)?;
    let session = id(&ready)?;
    say.step(&format!("The agent opens a checkout of one {item}, with an address: {session}."))?;

    let option = ready.text("/fulfillment_options/0/id");
    if let Some(option) = option.filter(|_| ready.text("/status").as_deref() != Some("ready_for_payment")) {
        let kind = ready.text("/fulfillment_options/0/type").unwrap_or_else(|| "shipping".to_owned());
        let choice = serde_json::json!({
            "selected_fulfillment_options": [{ "type": kind, "option_id": option, "item_ids": [item] }],
        });
        let updated = agent.post(path(shop, &session, ""), &choice).send().await;
        ready = expect("a way to send it is chosen", updated, 200)?;
        say.step(&format!("It has it sent by {option}."))?;
    }
    ensure_status(&ready, "ready_for_payment")?;
    let total = amount(&ready, "total")?;
    say.step(&format!("The shop says {}. Ready for payment.", dollars(total)))?;

    let mandate = Mandate { card: GOOD_CARD, merchant: shop, session: &session, most: total, until };
    let minted = agent.post(MINT, &order::mandate(&mandate)).send().await;
    let token = id(&expect("a token is minted", minted, 201)?)?;
    say.step(&format!(
        "It hands the test card 4242…4242 to the gateway and gets a token: at most {}.",
        dollars(total)
    ))?;
    say.detail(&token)?;

    let mut payment = order::payment(&token);
    if let Some(handler) = ready.text("/capabilities/payment/handlers/0/id")
        && let Some(data) = payment.pointer_mut("/payment_data")
    {
        merge(data, serde_json::json!({ "handler_id": handler }));
    }
    let complete = agent.post(path(shop, &session, "/complete"), &payment).prepare();
    let complete = complete.map_err(|error| Trouble::Step(format!("a complete is signed: {error}")))?;
    let completed = expect("the token is spent", agent.send(&complete).await, 200)?;
    ensure_status(&completed, "completed")?;
    let ordered = completed.text("/order/id").ok_or_else(|| Trouble::Step("there is no order".to_owned()))?;
    let shown = agent.get(format!("/agentic_commerce/issued_tokens/{token}")).send().await;
    let shown = expect("the token is looked at", shown, 200)?;
    let is_fetched = shown.json().get("exposed").and_then(serde_json::Value::as_bool) == Some(true);
    ensure("the shop fetched the card before it took the order", is_fetched)?;
    say.step(&format!(
        "It completes with the token. The shop fetches the card, once, and takes the order {ordered}."
    ))?;

    let again = expect("the same complete is sent again", agent.send(&complete).await, 200)?;
    ensure("it is marked as a replay", again.header("idempotent-replayed") == Some("true"))?;
    ensure("it is the same answer", again.body == completed.body)?;
    say.step("It sends the same complete again: the same answer comes back, and the shop hears nothing.")?;
    Ok(())
}
