//! A merchant's session answer, and a complete: read or refused, whatever stands in them.
#![no_main]

use countersign::acp::wire::complete::CompleteView;
use countersign::acp::wire::session::{SessionView, Total};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(view) = SessionView::read(input) {
        let _ = view.lifecycle();
        if let Total::Known(total) = view.total {
            let settled = view.total_in(total.settlement.currency);
            assert_eq!(settled, Some(total.settlement), "a total is what it says in its own currency");
        }
    }
    let _ = CompleteView::read(input).map(|complete| complete.minted_token());
});
