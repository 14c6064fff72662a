//! What a consumer of a Redis stream may rely on, against a real server.

use std::time::Duration;

use crate::{
    redis_stream::{Entry, Lag, RedisStream, StreamError, StreamPlace},
    testing::{Keeps, Redis},
};

const BLOCK: Duration = Duration::from_millis(20);

fn place(redis: &Redis, key: &str, consumer: &str) -> StreamPlace {
    StreamPlace { url: redis.url(), key: key.into(), group: "pond".into(), consumer: consumer.into() }
}

fn ids(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn add(redis: &Redis, key: &str, id: &str) {
    redis.ask::<String>(&["XADD", key, id, "name", "value"]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_the_rest_does_not() {
    let redis = Redis::shared();
    for id in ["1-1", "2-1", "3-1"] {
        add(redis, "again", id);
    }
    let mut stream = RedisStream::open(place(redis, "again", "a"), BLOCK).await.unwrap();
    let first = stream.read(2).await.unwrap();
    assert_eq!(ids(&first), ["1-1", "2-1"]);
    assert_eq!(first[0].fields, Some(vec![(b"name".to_vec(), b"value".to_vec())]));
    stream.acknowledge(&["1-1"]).await.unwrap();
    assert_eq!(stream.lag().await.unwrap(), Lag { waiting: Some(1), pending: 1 });
    drop(stream);
    // The same consumer, later.
    let mut stream = RedisStream::open(place(redis, "again", "a"), BLOCK).await.unwrap();
    assert_eq!(ids(&stream.own("0", 10).await.unwrap()), ["2-1"]);
    assert_eq!(ids(&stream.own("2-1", 10).await.unwrap()), [] as [&str; 0]);
    assert_eq!(ids(&stream.read(10).await.unwrap()), ["3-1"]);
    assert_eq!(stream.read(10).await.unwrap(), []);
    // Another one takes over what the first has had for too long, and what was deleted is forgotten.
    redis.ask::<i64>(&["XDEL", "again", "3-1"]);
    let mut other = RedisStream::open(place(redis, "again", "b"), BLOCK).await.unwrap();
    let (next, claimed) = other.claim("0-0", Duration::ZERO, 10).await.unwrap();
    assert_eq!((next.as_str(), ids(&claimed)), ("0-0", vec!["2-1"]));
    other.acknowledge(&["2-1"]).await.unwrap();
    assert_eq!(other.lag().await.unwrap().pending, 0);
}

#[tokio::test]
async fn an_entry_deleted_while_it_was_pending_has_no_fields() {
    let redis = Redis::shared();
    add(redis, "deleted", "1-1");
    let mut stream = RedisStream::open(place(redis, "deleted", "a"), BLOCK).await.unwrap();
    stream.read(1).await.unwrap();
    redis.ask::<i64>(&["XDEL", "deleted", "1-1"]);
    assert_eq!(stream.own("0", 10).await.unwrap(), [Entry { id: "1-1".into(), fields: None }]);
}

#[tokio::test]
async fn errors_tell_what_happened_and_no_password() {
    let redis = Redis::start(Keeps::Nothing);
    let mut stream = RedisStream::open(place(&redis, "lost", "a"), BLOCK).await.unwrap();
    redis.ask::<String>(&["FLUSHALL"]);
    assert!(matches!(stream.read(1).await, Err(StreamError::NoGroup)));
    assert!(matches!(stream.lag().await, Err(StreamError::NoGroup | StreamError::Refused(_))));
    redis.ask::<String>(&["SET", "text", "no stream"]);
    let refused = RedisStream::open(place(&redis, "text", "a"), BLOCK).await.unwrap_err();
    assert!(matches!(refused, StreamError::Refused(_)), "{refused}");
    redis.kill();
    let broken = stream.read(1).await.unwrap_err();
    let away = RedisStream::open(place(&redis, "lost", "a"), BLOCK).await.unwrap_err();
    let bad = StreamPlace { url: format!("http://{}@x", Redis::password()), ..place(&redis, "lost", "a") };
    let bad = RedisStream::open(bad, BLOCK).await.unwrap_err();
    assert!(
        matches!(
            (&broken, &away, &bad),
            (StreamError::Unreachable(_), StreamError::Unreachable(_), StreamError::BadUrl)
        ),
        "{broken}, {away}, {bad}"
    );
    for error in [broken, away, bad, refused] {
        assert!(!format!("{error} {error:?}").contains(Redis::password()), "{error}");
    }
    assert!(!format!("{stream:?}").contains(Redis::password()));
}
