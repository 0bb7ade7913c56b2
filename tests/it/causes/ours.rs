//! What of ours failed: the agent is told that it was us, and the log what it was.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_answer_that_does_not_open_is_told_as_ours_and_logged_with_its_cause() {
    let mut world = World::start().await;
    let alpha = world.alpha();
    let call = alpha.post("/m/lamps/checkout_sessions", &lamp_order()).key("k").prepare().unwrap();
    assert_eq!(alpha.send(&call).await.unwrap().status, 201);
    // Somebody puts another secret under the old name.
    world.reopen(&[("sealing.key", &"5a".repeat(32))], |text| text).await;
    let answer = world.alpha().send(&call).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code().as_deref()), (500, Some("processing_error")));
    let line = line_of(&world, &answer).await;
    assert_eq!((&line["decision"], &line["cause"]), (&"processing_error".into(), &"answer_unopened".into()));
    assert!(!answer.json().to_string().contains("unopened"), "{}", answer.json());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_is_the_callers_doing_has_no_cause() {
    let world = World::start().await;
    let answer = world.alpha().get("/m/lamps/checkout_sessions/cs_none").send().await.unwrap();
    let line = line_of(&world, &answer).await;
    assert_eq!((line["status"].as_u64(), line.get("cause")), (Some(u64::from(answer.status.as_u16())), None));
}
