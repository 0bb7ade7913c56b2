//! One purchase from end to end, and what may not happen on the way.

use crate::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_buys_a_lamp_with_a_token() {
    let world = World::start().await;
    let alpha = world.alpha();
    let (session, total) = create(&alpha, "lamps").await;
    let token = mint(&alpha, "lamps", &session, GOOD_CARD, total).await;
    let answer = complete(&alpha, "lamps", &session, &token).await;
    assert_eq!(answer.status, 200, "{} {}", answer.json(), world.log.text());
    assert_eq!(answer.text("/status").as_deref(), Some("completed"), "{}", answer.json());
    let charges = world.lamps.charges();
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].amount, charges[0].last4.as_str()), (total, "4242"));
}
