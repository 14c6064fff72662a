//! What the journal keeps to, whichever database it is in.

use domain::{EventKind, NewEvent, Timestamp};
use serde_json::json;

use super::Home;
use crate::{Caller, Meta, StorageError};

/// What every journal keeps to; `fresh` gives an empty database.
///
/// # Panics
/// Where the implementation breaks a promise.
pub async fn journal_suite(fresh: impl AsyncFn() -> Home) {
    events_keep_their_order_and_content(&fresh().await).await;
    an_undone_event_never_happened_and_its_number_is_used_again(&fresh().await).await;
    a_history_is_of_a_subject_and_what_lies_under_it(&fresh().await).await;
    a_follower_misses_nothing(&fresh().await).await;
    for (edit, found_at) in EDITS {
        tampering_breaks_the_chain_where_it_happened(&fresh().await, edit, found_at).await;
    }
    a_remembered_head_tells_that_the_end_was_cut_off_or_written_anew(&fresh().await).await;
    an_event_names_the_caller_and_the_request_behind_it(&fresh().await).await;
    writers_side_by_side_leave_no_gap_in_the_chain(&fresh().await).await;
}

/// What somebody might do to the journal, and where it shows.
const EDITS: [(&str, i64); 7] = [
    ("UPDATE journal SET body = '{}' WHERE seq = 2", 2),
    ("UPDATE journal SET at = at + 1 WHERE seq = 3", 3),
    ("UPDATE journal SET cause = NULL WHERE seq = 2", 2),
    ("UPDATE journal SET hash = (SELECT hash FROM journal WHERE seq = 1) WHERE seq = 2", 2),
    ("UPDATE journal SET request = 'r-1' WHERE seq = 2", 2),
    ("DELETE FROM journal WHERE seq = 2", 3),
    ("DELETE FROM journal WHERE seq = 1", 2),
];

/// An event about `subject` at `n` microseconds.
#[must_use]
pub fn event(subject: &str, n: i64) -> NewEvent {
    NewEvent {
        at: Timestamp::from_micros(n),
        kind: EventKind::AliasMoved,
        subject: subject.into(),
        actor: "test".into(),
        cause: (n > 1).then_some(1),
        body: json!({ "z": n, "a": [n, 0.1] }),
    }
}

async fn journal_of(home: &Home, events: &[&str]) -> Meta {
    let meta = home.open().await;
    for (n, subject) in (1..).zip(events) {
        let mut tx = meta.begin().await.expect("begin");
        tx.append(event(subject, n)).await.expect("append");
        tx.commit().await.expect("commit");
    }
    meta
}

async fn events_keep_their_order_and_content(home: &Home) {
    let meta = journal_of(home, &["model/a", "model/b", "model/a"]).await;
    let journal = meta.journal();
    let events = journal.read(0, 10).await.expect("read");
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((events[1].subject.as_str(), events[1].cause, events[1].at.micros()), ("model/b", Some(1), 2));
    assert_eq!(events[1].body.to_string(), r#"{"z":2,"a":[2,0.1]}"#);
    assert_eq!(events[0].kind, EventKind::AliasMoved);
    let seqs = |events: Vec<domain::Event>| events.iter().map(|e| e.seq).collect::<Vec<_>>();
    assert_eq!(seqs(journal.read(1, 1).await.expect("read")), [2]);
    assert_eq!(seqs(journal.recent(2).await.expect("recent")), [3, 2]);
    assert_eq!(seqs(journal.about("model/a", 9).await.expect("about")), [3, 1]);
    assert_eq!(journal.verify(None).await.expect("verify").seq, 3);
}

async fn an_undone_event_never_happened_and_its_number_is_used_again(home: &Home) {
    let meta = journal_of(home, &["a"]).await;
    let watch = meta.journal().watch();
    let mut tx = meta.begin().await.expect("begin");
    assert_eq!(tx.append(event("b", 2)).await.expect("append"), 2);
    assert_eq!(tx.append(event("c", 3)).await.expect("append"), 3);
    drop(tx);
    assert!(!watch.has_changed().expect("watched"));
    let mut tx = meta.begin().await.expect("begin");
    assert_eq!(tx.append(event("d", 2)).await.expect("append"), 2);
    tx.commit().await.expect("commit");
    assert_eq!(meta.journal().recent(1).await.expect("recent")[0].subject, "d");
    assert_eq!(meta.journal().verify(None).await.expect("verify").seq, 2);
}

async fn a_history_is_of_a_subject_and_what_lies_under_it(home: &Home) {
    let subjects =
        ["model/a", "model/a/1", "model/a-b", "model/a/alias/x", "model/a b", "model/b", "model/a/2", "model/a0"];
    let meta = journal_of(home, &subjects).await;
    let seqs = async |subject, below, before, limit| {
        let events = meta.journal().history(subject, below, before, limit).await.expect("history");
        events.iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs("model/a", true, None, 9).await, [7, 4, 2, 1]);
    assert_eq!(seqs("model/a", true, None, 2).await, [7, 4]);
    assert_eq!(seqs("model/a", true, Some(4), 9).await, [2, 1]);
    assert_eq!(seqs("model/a", false, None, 9).await, [1]);
    assert_eq!(seqs("model/a/1", false, None, 9).await, [2]);
}

async fn a_follower_misses_nothing(home: &Home) {
    let meta = journal_of(home, &["a", "b"]).await;
    let mut watch = meta.journal().watch();
    assert_eq!(*watch.borrow_and_update(), 2);
    let mut tx = meta.begin().await.expect("begin");
    tx.append(event("c", 3)).await.expect("append");
    assert!(!watch.has_changed().expect("watched"), "nothing is told before it is committed");
    tx.commit().await.expect("commit");
    watch.changed().await.expect("watched");
    assert_eq!(*watch.borrow_and_update(), 3);
    drop(meta);
    assert_eq!(*home.open().await.journal().watch().borrow(), 3);
}

async fn tampering_breaks_the_chain_where_it_happened(home: &Home, edit: &'static str, found_at: i64) {
    let meta = journal_of(home, &["a", "b", "c"]).await;
    assert_eq!(meta.journal().verify(None).await.expect("verify").seq, 3);
    let mut tx = meta.begin().await.expect("begin");
    sqlx::query(edit).execute(tx.conn()).await.expect("edit");
    tx.commit().await.expect("commit");
    match meta.journal().verify(None).await {
        Err(StorageError::Corrupt { what, .. }) => assert_eq!(what, format!("journal at {found_at}"), "{edit}"),
        other => panic!("{edit}: {other:?}"),
    }
}

async fn a_remembered_head_tells_that_the_end_was_cut_off_or_written_anew(home: &Home) {
    let meta = journal_of(home, &["a", "b", "c"]).await;
    let head = meta.journal().verify(None).await.expect("verify");
    assert_eq!(head.to_string().parse(), Ok(head.clone()));
    assert_eq!(meta.journal().verify(Some(&head)).await.expect("verify"), head);
    let mut tx = meta.begin().await.expect("begin");
    sqlx::query("DELETE FROM journal WHERE seq = 3").execute(tx.conn()).await.expect("edit");
    tx.commit().await.expect("commit");
    assert_eq!(meta.journal().verify(None).await.expect("the rest is whole").seq, 2);
    let cut = meta.journal().verify(Some(&head)).await.expect_err("cut");
    assert!(cut.to_string().contains("events 3 to 3 are missing"), "{cut}");
    let mut tx = meta.begin().await.expect("begin");
    assert_eq!(tx.append(event("other", 3)).await.expect("append"), 3);
    tx.commit().await.expect("commit");
    let anew = meta.journal().verify(Some(&head)).await.expect_err("written anew");
    assert!(anew.to_string().contains("journal at 3"), "{anew}");
}

async fn an_event_names_the_caller_and_the_request_behind_it(home: &Home) {
    let meta = journal_of(home, &["a"]).await;
    let ann = Caller { name: Some("ann".into()), request: Some("r-7".into()) };
    let mut tx = meta.begin().await.expect("begin");
    crate::acting(ann, tx.append(event("b", 2))).await.expect("append");
    tx.commit().await.expect("commit");
    let events = meta.journal().read(0, 9).await.expect("read");
    let said: Vec<_> = events.iter().map(|e| (e.actor.as_str(), e.request.as_deref())).collect();
    assert_eq!(said, [("test", None), ("ann", Some("r-7"))]);
    assert_eq!(meta.journal().verify(None).await.expect("verify").seq, 2);
}

async fn writers_side_by_side_leave_no_gap_in_the_chain(home: &Home) {
    let meta = journal_of(home, &[]).await;
    let writers = (0..16).map(|n| {
        let meta = meta.clone();
        tokio::spawn(async move {
            for m in 0..4 {
                let mut tx = meta.begin().await.expect("begin");
                tx.append(event(&format!("writer/{n}"), m)).await.expect("append");
                // Every fourth thinks better of it.
                if m < 3 {
                    tx.commit().await.expect("commit");
                }
            }
        })
    });
    for done in futures::future::join_all(writers).await {
        done.expect("writer");
    }
    assert_eq!(meta.journal().verify(None).await.expect("verify").seq, 48);
    assert_eq!(*meta.journal().watch().borrow(), 48);
}
