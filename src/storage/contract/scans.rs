//! Walking through all records of a kind.

use std::sync::Arc;

use super::{key, put, write};
use crate::domain::clock::ManualClock;
use crate::records::{Kind, PAGE_BYTES, RecordKey, RecordStore};

pub(in crate::storage) async fn scans_go_through_a_kind_in_pages(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let mut keys = vec![
        key(Kind::Token, "p", "b"),
        key(Kind::Token, "p", "a"),
        key(Kind::Token, "p-q", "a"),
        key(Kind::Token, "o", "z"),
        key(Kind::Token, "p", "ab"),
    ];
    let other = key(Kind::Session, "p", "a");
    for key in keys.iter().chain([&other]) {
        write(store, vec![put(key, key.name())]).await;
    }
    let mut seen = Vec::new();
    loop {
        let page = store.scan(Kind::Token, seen.last(), 2).await.unwrap();
        assert!(page.len() <= 2 && page.iter().all(|(key, record)| *record.bytes == *key.name().as_bytes()));
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    seen.sort();
    keys.sort();
    assert_eq!(seen, keys);
}

pub(in crate::storage) async fn a_page_of_a_scan_is_bounded_by_bytes_as_well_as_by_number(
    store: &Arc<dyn RecordStore>,
    _: &Arc<ManualClock>,
) {
    let content = "x".repeat(1 << 20);
    let mut keys: Vec<RecordKey> =
        (0..12).map(|n| key(Kind::Token, &format!("p{}", n % 5), &format!("t{n}"))).collect();
    for key in &keys {
        write(store, vec![put(key, &content)]).await;
    }
    let mut seen = Vec::new();
    loop {
        let page = store.scan(Kind::Token, seen.last(), usize::MAX).await.unwrap();
        let bytes: usize = page.iter().map(|(_, record)| record.bytes.len()).sum();
        // The record that reaches the bound is the page's last.
        assert!(bytes < PAGE_BYTES + content.len(), "{bytes} bytes in one page");
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    seen.sort();
    keys.sort();
    assert_eq!(seen, keys);
}
