use domain::{EventKind, NewEvent, Timestamp};
use serde_json::json;

use crate::{Meta, StorageError};

fn event(subject: &str, n: i64) -> NewEvent {
    NewEvent {
        at: Timestamp::from_micros(n),
        kind: EventKind::AliasMoved,
        subject: subject.into(),
        actor: "test".into(),
        cause: (n > 1).then_some(1),
        body: json!({ "z": n, "a": [n, 0.1] }),
    }
}

async fn journal_of(events: &[&str]) -> (tempfile::TempDir, Meta) {
    let dir = tempfile::tempdir().unwrap();
    let meta = Meta::open(&dir.path().join("meta.db")).await.unwrap();
    for (n, subject) in (1..).zip(events) {
        let mut tx = meta.begin().await.unwrap();
        tx.append(event(subject, n)).await.unwrap();
        tx.commit().await.unwrap();
    }
    (dir, meta)
}

#[tokio::test]
async fn events_keep_their_order_and_content() {
    let (_dir, meta) = journal_of(&["model/a", "model/b", "model/a"]).await;
    let events = meta.journal().read(0, 10).await.unwrap();
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((events[1].subject.as_str(), events[1].cause, events[1].at.micros()), ("model/b", Some(1), 2));
    assert_eq!(events[1].body.to_string(), r#"{"z":2,"a":[2,0.1]}"#);
    assert_eq!(events[0].kind, EventKind::AliasMoved);
    let seqs = |events: Vec<domain::Event>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(meta.journal().read(1, 1).await.unwrap()), [2]);
    assert_eq!(seqs(meta.journal().recent(2).await.unwrap()), [3, 2]);
    assert_eq!(seqs(meta.journal().about("model/a", 9).await.unwrap()), [3, 1]);
    assert_eq!(meta.journal().verify().await.unwrap(), 3);
}

#[tokio::test]
async fn an_undone_event_never_happened_and_its_number_is_used_again() {
    let (_dir, meta) = journal_of(&["a"]).await;
    let watch = meta.journal().watch();
    let mut tx = meta.begin().await.unwrap();
    assert_eq!(tx.append(event("b", 2)).await.unwrap(), 2);
    assert_eq!(tx.append(event("c", 3)).await.unwrap(), 3);
    drop(tx);
    assert!(!watch.has_changed().unwrap());
    let mut tx = meta.begin().await.unwrap();
    assert_eq!(tx.append(event("d", 2)).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(meta.journal().recent(1).await.unwrap()[0].subject, "d");
    assert_eq!(meta.journal().verify().await.unwrap(), 2);
}

#[tokio::test]
async fn a_follower_misses_nothing() {
    let (dir, meta) = journal_of(&["a", "b"]).await;
    let mut watch = meta.journal().watch();
    assert_eq!(*watch.borrow_and_update(), 2);
    let mut tx = meta.begin().await.unwrap();
    tx.append(event("c", 3)).await.unwrap();
    assert!(!watch.has_changed().unwrap(), "nothing is told before it is committed");
    tx.commit().await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), 3);
    drop(meta);
    let reopened = Meta::open(&dir.path().join("meta.db")).await.unwrap();
    assert_eq!(*reopened.journal().watch().borrow(), 3);
}

#[tokio::test]
async fn tampering_breaks_the_chain_where_it_happened() {
    let edits = [
        ("UPDATE journal SET body = '{}' WHERE seq = 2", 2),
        ("UPDATE journal SET at = at + 1 WHERE seq = 3", 3),
        ("UPDATE journal SET cause = NULL WHERE seq = 2", 2),
        ("UPDATE journal SET hash = (SELECT hash FROM journal WHERE seq = 1) WHERE seq = 2", 2),
        ("DELETE FROM journal WHERE seq = 2", 3),
        ("DELETE FROM journal WHERE seq = 1", 2),
    ];
    for (edit, found_at) in edits {
        let (_dir, meta) = journal_of(&["a", "b", "c"]).await;
        assert_eq!(meta.journal().verify().await.unwrap(), 3);
        let mut tx = meta.begin().await.unwrap();
        sqlx::query(edit).execute(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        match meta.journal().verify().await {
            Err(StorageError::Corrupt { what, .. }) => assert_eq!(what, format!("journal at {found_at}"), "{edit}"),
            other => panic!("{edit}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_side_by_side_leave_no_gap_in_the_chain() {
    let (_dir, meta) = journal_of(&[]).await;
    let writers = (0..16).map(|n| {
        let meta = meta.clone();
        tokio::spawn(async move {
            for m in 0..4 {
                let mut tx = meta.begin().await.unwrap();
                tx.append(event(&format!("writer/{n}"), m)).await.unwrap();
                // Every fourth thinks better of it.
                if m < 3 {
                    tx.commit().await.unwrap();
                }
            }
        })
    });
    for done in futures::future::join_all(writers).await {
        done.unwrap();
    }
    assert_eq!(meta.journal().verify().await.unwrap(), 48);
    assert_eq!(*meta.journal().watch().borrow(), 48);
}
