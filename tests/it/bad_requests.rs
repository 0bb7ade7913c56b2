//! Malformed, oversized and hostile requests, by the table.
//!
//! Each gets its status and its code in a flat ACP error, or the end of its connection where HTTP demands
//! that; nothing of it reaches a merchant, and nothing of it is kept: the correct request with the same
//! key works afterwards.

mod bench;
mod bodies;
mod cards;
mod endings;
mod framing;
mod headers;
mod heads;
mod http2;
mod redeems;
mod signatures;

use bench::{Base, Bench, closing, refused, row};

/// Without this, the tables would prove nothing: what they spoil is good.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_tables_spoil_is_good_as_it_is() {
    let bench = Bench::start("").await;
    for base in [Base::Create, Base::Read, Base::Mint, Base::Complete] {
        let key = bench::fresh_key();
        let target = bench.target(base).await;
        let raw = crate::wire::Raw::of(&target.call(&bench, &key).prepare().unwrap());
        let received = crate::wire::exchange(&bench.world, &raw.bytes()).await;
        assert_eq!(received.status, Some(base.success()), "{}", received.json());
        assert_eq!(received.header("idempotent-replayed"), None);
    }
}

/// What a table that cannot fail would not notice: a request that is taken, and one refused otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_notice_what_is_not_refused_as_they_say() {
    let bench = Bench::start("").await;
    let rows = vec![
        row("a good request", Base::Create, |raw, _| raw, refused(400, "invalid_json")),
        row("another code", Base::Create, |raw, _| raw.without("authorization"), refused(401, "other")),
        row("no end", Base::Create, |raw, _| raw.without("authorization"), closing(401, "unauthorized")),
    ];
    assert_eq!(bench.failures(rows).await.len(), 3);
}
