//! Words nobody here knows: they pass, both ways. What contradicts ACP passes too, and is counted.

use countersign::acp::version::Version;
use countersign::quickstart::shop::{Behaviour, CallKind};
use serde_json::{Value, json};

use super::{SESSIONS, counted, path_of, post};
use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn k10_unknown_capabilities_and_interventions_pass_both_ways() {
    let world = World::start().await;
    let alpha = world.alpha();
    let mut order = lamp_order();
    order["capabilities"] = json!({
        "interventions": {"supported": ["3ds", "retina_scan"], "display_context": "hologram", "max_depth": 7},
        "extensions": ["discount", "dev.acp.something_new@2031-01-01"],
        "telepathy": {"supported": true}
    });
    let mut shown = shown_session("cs_new");
    shown["capabilities"] = json!({
        "payment": {"handlers": [{"id": "mind", "name": "com.example.mind", "psp": "nobody"}]},
        "interventions": {"supported": ["retina_scan"], "required": ["retina_scan"], "enforcement": "sometimes"},
        "extensions": [{"name": "dev.acp.something_new", "extends": ["$.x"]}]
    });
    shown["status"] = json!("a_status_of_2031");
    world.lamps.behave_once(CallKind::Create, Behaviour::Instead(canned(201, shown.to_string())));
    let answer = post(&alpha, SESSIONS, &order).await;
    assert_eq!((answer.status.as_u16(), answer.json()), (201, shown));
    assert_eq!(world.lamps.calls_of(CallKind::Create)[0].body, order.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn k11_a_quantity_reaches_the_merchant_in_every_version() {
    let world = World::start().await;
    for version in [Version::V2026_01_30, Version::V2026_04_17] {
        let agent = world.agent(0, |settings| settings.version = version);
        let mut order = lamp_order();
        order["line_items"] = json!([{"id": "item_lamp", "quantity": 3}]);
        let created = post(&agent, SESSIONS, &order).await;
        assert_eq!(created.json()["line_items"][0]["quantity"], 3, "{version}");
        order["line_items"] = json!([{"id": "item_lamp", "quantity": 4}]);
        let updated = post(&agent, path_of(&created.text("/id").unwrap()), &order).await;
        assert_eq!(updated.json()["line_items"][0]["quantity"], 4, "{version}");
        let cart = json!({"line_items": [{"id": "item_lamp", "quantity": 5}], "currency": "usd"});
        assert_eq!(post(&agent, "/m/lamps/carts", &cart).await.json()["line_items"][0]["quantity"], 5);
    }
}

/// A session with members at every depth that no version has.
fn of_the_future(session: &str) -> String {
    let mut shown = shown_session(session);
    shown["x_top"] = json!({"deep": [{"er": null}], "n": 1});
    shown["totals"][0]["x_reason"] = json!("because");
    shown["line_items"] =
        json!([{"id": "li", "item": {"id": "item_lamp", "x_colour": "red"}, "quantity": 1, "totals": []}]);
    shown["messages"] = json!([{"type": "riddle", "x": true}, {"type": "info", "content_type": "markdown", "content": "See <https://example.com> and `<b>`"}]);
    shown["order"] = Value::Null;
    shown.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn k13_unknown_members_of_an_answer_pass_unchanged() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let path = path_of(&session);
    let shown = of_the_future(&session);
    for (kind, call) in [
        (CallKind::Read, alpha.get(&path)),
        (CallKind::Update, alpha.post(&path, &lamp_order())),
        (CallKind::Create, alpha.post(SESSIONS, &lamp_order())),
    ] {
        world.lamps.behave_once(kind, Behaviour::Instead(canned(200, shown.clone())));
        let answer = call.send().await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, shown.as_bytes()), "{kind:?}");
    }
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let mut ordered: Value = serde_json::from_str(&shown).unwrap();
    ordered["status"] = json!("completed");
    ordered["order"] = json!({"id": "o", "checkout_session_id": session, "status": "teleported", "x": [1]});
    world.lamps.behave_once(CallKind::Complete, Behaviour::Instead(canned(200, ordered.to_string())));
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.body, ordered.to_string());
    assert_eq!(super::standing(&alpha, &token).await, "consumed", "and its order is understood");
}

#[tokio::test(flavor = "multi_thread")]
async fn k14_a_selected_option_that_is_not_offered_is_flagged() {
    let world = World::start().await;
    let alpha = world.alpha();
    let fault = "session_faults_total{fault=\"option_not_offered\"}";
    let (session, _) = create(&alpha, "lamps").await;
    let path = path_of(&session);
    let mut express = lamp_order();
    express["selected_fulfillment_options"] =
        json!([{"type": "shipping", "option_id": "ship_express", "item_ids": ["item_lamp"]}]);
    assert_eq!(post(&alpha, &path, &express).await.status, 200);
    assert_eq!(counted(&world, fault), 0, "the shop offers what it selects");

    let option = |id: &str| json!({"type": "shipping", "id": id, "title": id, "totals": []});
    let selected = |id: &str| json!([{"type": "shipping", "option_id": id, "item_ids": []}]);
    let mut shown = shown_session(&session);
    shown["fulfillment_options"] = json!([option("a"), option("b")]);
    for (index, (members, faults)) in [
        (json!({"selected_fulfillment_options": selected("b")}), 0),
        (json!({"selected_fulfillment_options": selected("c")}), 1),
        (json!({"selected_fulfillment_options": [{"type": "shipping", "shipping": {"option_id": "c", "item_ids": []}}]}), 2),
        (json!({"fulfillment_option_id": "c"}), 3),
        (json!({"fulfillment_option_id": "a"}), 3),
    ]
    .into_iter()
    .enumerate()
    {
        let mut shown = shown.clone();
        shown.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        world.lamps.behave_once(CallKind::Update, Behaviour::Instead(canned(200, shown.to_string())));
        let answer = post(&alpha, &path, &json!({})).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, shown), "{index}: relayed as it is");
        assert_eq!(counted(&world, fault), faults, "{index}");
    }
}
