//! What every load of sorted pairs keeps to.

use super::{get, insist, key, write};
use crate::{Kv, Pair, SortedPairs, StorageError};

fn numbered(numbers: impl Iterator<Item = u32> + Send + 'static, value: &'static str) -> SortedPairs {
    Box::new(numbers.map(move |n| Ok((format!("k{n:06}").into_bytes(), key(value)))))
}

async fn all(kv: &impl Kv) -> Vec<Pair> {
    insist(async || kv.range(b"k", b"l", usize::MAX).await).await.expect("range")
}

/// Loads and writes in turn: the later one counts, deletes included, and nothing else changes.
pub(super) async fn stands_beside_what_is_written(kv: &impl Kv) {
    write(kv, &[("k000001", "old"), ("k000002", "gone"), ("z", "other")], &[], true).await;
    let loaded = insist(async || kv.load(numbered((0..20_000).step_by(2), "loaded")).await).await.expect("load");
    assert_eq!(loaded, 10_000);
    assert_eq!(
        get(kv, &["k000001", "k000002", "k000003", "k019998", "z"]).await,
        [Some(key("old")), Some(key("loaded")), None, Some(key("loaded")), Some(key("other"))]
    );
    assert_eq!(all(kv).await.len(), 10_001);
    write(kv, &[("k000004", "new")], &["k000006", "k000001"], false).await;
    assert_eq!(get(kv, &["k000004", "k000006", "k000001"]).await, [Some(key("new")), None, None]);
    let again = insist(async || kv.load(numbered([4, 6].into_iter(), "again")).await).await.expect("load");
    assert_eq!(again, 2);
    assert_eq!(get(kv, &["k000004", "k000006"]).await, [Some(key("again")), Some(key("again"))]);
    assert_eq!(insist(async || kv.load(numbered(0..0, "none")).await).await.expect("load"), 0);
}

/// An error of the pairs, or a key that does not ascend, is the load's error.
pub(super) async fn refuses_what_is_out_of_order(kv: &impl Kv) {
    for numbers in [vec![1, 3, 2], vec![1, 1]] {
        let refused = insist(async || kv.load(numbered(numbers.clone().into_iter(), "x")).await).await;
        assert!(matches!(refused, Err(StorageError::Corrupt { .. })), "{refused:?}");
    }
    let broken = || -> SortedPairs {
        Box::new([Ok((key("k1"), key("x"))), Err(StorageError::BadKey { length: 7 })].into_iter())
    };
    let refused = insist(async || kv.load(broken()).await).await;
    assert!(matches!(refused, Err(StorageError::BadKey { length: 7 })), "{refused:?}");
    let empty = || -> SortedPairs { Box::new([Ok((Vec::new(), key("x")))].into_iter()) };
    let refused = insist(async || kv.load(empty()).await).await;
    assert!(matches!(refused, Err(StorageError::BadKey { length: 0 })), "{refused:?}");
}
