//! Tokens, projects and refused attempts, on SQLite and on Postgres.

use access::{Access, AccessError, Admin, Attempt, NewToken, Secret};
use domain::{EventKind, ProjectName, Right, Role, Span, Timestamp};
use runtime::{Clock, House};
use storage::{
    Caller, Meta,
    testing::{Home, Postgres},
};

const ROOT: Admin<'static> = Admin { name: "root", house: true };
const DAY: i64 = Span::DAY.micros();

struct World {
    home: Home,
    meta: Meta,
    clock: Clock,
    access: Access,
    _dir: tempfile::TempDir,
}

/// A world on each database.
async fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for postgres in [false, true] {
        let dir = tempfile::tempdir().expect("a directory");
        let home = if postgres {
            Home::Postgres(Postgres::shared().database().await)
        } else {
            Home::File(dir.path().join("meta.db"))
        };
        let (meta, clock) = (home.open().await, Clock::manual(Timestamp::from_micros(DAY)));
        let access = Access::open(meta.clone(), clock.clone()).await.expect("opens");
        worlds.push(World { home, meta, clock, access, _dir: dir });
    }
    worlds
}

fn project() -> ProjectName {
    "vision".parse().expect("a name")
}

fn token(name: &str, role: Role, scopes: &[Right], days: Option<i64>) -> NewToken {
    let expires_in = days.map(|days| Span::from_micros(days * DAY));
    NewToken { name: name.into(), role, scopes: scopes.to_vec(), house: false, expires_in }
}

async fn kinds(meta: &Meta) -> Vec<EventKind> {
    meta.journal().read(0, 1_000).await.expect("reads").into_iter().map(|event| event.kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_until_it_expires_or_is_revoked_also_after_a_restart() {
    for World { home, meta, clock, access, _dir } in worlds().await {
        let ann = access.create_token(&project(), token("ann", Role::Engineer, &[], Some(2)), ROOT).await.unwrap();
        let bob = access.create_token(&project(), token("bob", Role::Viewer, &[], None), ROOT).await.unwrap();
        assert_eq!(access.recognise(&ann.secret).await.unwrap().name, "ann");
        let again = Access::open(home.open().await, clock.clone()).await.unwrap();
        assert_eq!(again.recognise(&bob.secret).await.unwrap().role, Role::Viewer);
        assert_eq!(again.tokens().await.len(), 2);

        clock.advance(Span::from_micros(2 * DAY - 1));
        assert!(access.recognise(&ann.secret).await.is_ok());
        clock.advance(Span::from_micros(1));
        assert!(matches!(access.recognise(&ann.secret).await, Err(AccessError::Expired { .. })));
        let revoked = access.revoke_token(&bob.token.id, ROOT).await.unwrap();
        assert_eq!(access.revoke_token(&bob.token.id, ROOT).await.unwrap(), revoked, "again changes nothing");
        assert!(matches!(access.recognise(&bob.secret).await, Err(AccessError::Revoked { .. })));
        let created = [EventKind::TokenCreated, EventKind::TokenCreated, EventKind::TokenRevoked];
        assert_eq!(kinds(&meta).await, created);
        let journal = format!("{:?}", meta.journal().read(0, 9).await.unwrap());
        for secret in [ann.secret.reveal(), bob.secret.reveal()] {
            let hidden = secret.rsplit('.').next().unwrap();
            assert!(!journal.contains(hidden), "no secret is in the journal");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_and_an_unknown_token_are_refused_in_the_same_words() {
    for World { access, _dir, .. } in worlds().await {
        let ann = access.create_token(&project(), token("ann", Role::Admin, &[], None), ROOT).await.unwrap();
        let text = ann.secret.reveal();
        let (front, secret) = text.rsplit_once('.').unwrap();
        let wrong: Secret = format!("{front}.{}", secret.chars().rev().collect::<String>()).parse().unwrap();
        let unknown: Secret = format!("mpt_vision.{}.{secret}", "0".repeat(16)).parse().unwrap();
        let elsewhere: Secret = text.replacen("mpt_vision", "mpt_default", 1).parse().unwrap();
        for secret in [wrong, unknown, elsewhere] {
            let refused = access.recognise(&secret).await.expect_err("not a token of this project");
            assert_eq!(refused.to_string(), "the token is not known here");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_overlaps_and_the_new_one_does_what_the_old_one_did() {
    for World { meta, clock, access, _dir, .. } in worlds().await {
        let old = token("checkout", Role::Engineer, &[Right::Predict], Some(30));
        let old = access.create_token(&project(), old, ROOT).await.unwrap();
        clock.advance(Span::from_micros(20 * DAY));
        let new = access.rotate_token(&project(), &old.token.id, Span::HOUR, ROOT).await.unwrap();
        assert_eq!(
            (new.token.name.as_str(), new.token.role, &new.token.scopes),
            ("checkout", Role::Engineer, &vec![Right::Predict])
        );
        assert_eq!(new.token.replaces.as_ref(), Some(&old.token.id));
        assert_eq!(new.token.expires_at, Some(Timestamp::from_micros(51 * DAY)), "it holds as long as the old one did");
        assert!(access.recognise(&old.secret).await.is_ok() && access.recognise(&new.secret).await.is_ok());
        clock.advance(Span::HOUR);
        assert!(matches!(access.recognise(&old.secret).await, Err(AccessError::Expired { .. })));
        assert!(access.recognise(&new.secret).await.is_ok());
        let dead = access.rotate_token(&project(), &old.token.id, Span::HOUR, ROOT).await;
        assert!(matches!(dead, Err(AccessError::Expired { .. })), "a dead token makes no new one");
        assert_eq!(kinds(&meta).await, [EventKind::TokenCreated, EventKind::TokenRotated]);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_kept() {
    let World { meta, access, _dir, .. } = worlds().await.remove(0);
    let house = NewToken { house: true, ..token("x", Role::Operator, &[], None) };
    for wrong in [
        token("", Role::Viewer, &[], None),
        token(" ann", Role::Viewer, &[], None),
        token("a\nb", Role::Viewer, &[], None),
        token(&"x".repeat(101), Role::Viewer, &[], None),
        token("x", Role::Viewer, &[Right::Write], None),
        token("x", Role::Viewer, &[], Some(0)),
        house,
    ] {
        let refused = access.create_token(&project(), wrong.clone(), ROOT).await;
        assert!(matches!(refused, Err(AccessError::Invalid { .. })), "{wrong:?}");
    }
    assert!(access.tokens().await.is_empty() && kinds(&meta).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_are_listed_once_and_default_is_always_there() {
    for World { access, _dir, .. } in worlds().await {
        access.create_project(&project(), "root").await.unwrap();
        for taken in [project(), access::default_project()] {
            assert!(
                matches!(access.create_project(&taken, "root").await, Err(AccessError::ProjectExists(_))),
                "{taken}"
            );
        }
        assert!(access.create_project(&"x".repeat(41).parse().unwrap(), "root").await.is_err());
        let names: Vec<_> = access.projects().await.unwrap().into_iter().map(|p| p.name.to_string()).collect();
        assert_eq!(names, ["default", "vision"]);
        assert!(access.has_project(&project()).await.unwrap());
        assert!(!access.has_project(&"nobody".parse().unwrap()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_of_the_same_database_learns_of_a_revoked_token() {
    let url = Postgres::shared().database().await;
    let home = Home::Postgres(url);
    let (one, two) = (home.open().await, home.open().await);
    let one = Access::open(one, Clock::system()).await.unwrap();
    let house = House::new();
    let access = Access::open(two.clone(), Clock::system()).await.unwrap();
    access.attend(&house);
    let meta = two.clone();
    house.spawn("journal", |stop| async move {
        tokio::select! { () = stop.cancelled() => {}, () = meta.follow() => {} }
    });
    let ann = one.create_token(&project(), token("ann", Role::Engineer, &[], None), ROOT).await.unwrap();
    let soon = std::time::Duration::from_secs(30);
    let wait = async |holds: bool| {
        let asked = async {
            while access.recognise(&ann.secret).await.is_ok() != holds {
                tokio::task::yield_now().await
            }
        };
        tokio::time::timeout(soon, asked).await.unwrap_or_else(|_| panic!("the other server never learned: {holds}"));
    };
    wait(true).await;
    one.revoke_token(&ann.token.id, ROOT).await.unwrap();
    wait(false).await;
    assert!(house.shutdown(soon).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_attempts_are_told_of_at_once_and_then_counted() {
    for World { meta, access, _dir, .. } in worlds().await {
        let attempt = |call: &str| Attempt {
            who: Some("ann".into()),
            from: None,
            call: call.into(),
            code: domain::ErrorCode::PermissionDenied,
        };
        for _ in 0..5 {
            access.refused(attempt("PUT /x")).await.unwrap();
        }
        access.refused(attempt("PUT /y")).await.unwrap();
        assert_eq!(kinds(&meta).await.len(), 2, "one for each kind");
        let house = House::new();
        access.attend(&house);
        assert!(house.shutdown(std::time::Duration::from_secs(30)).await.is_empty());
        let events = meta.journal().read(0, 9).await.unwrap();
        let told: Vec<_> = events
            .iter()
            .map(|e| (e.actor.as_str(), e.body["call"].as_str().unwrap(), e.body["times"].as_u64().unwrap()))
            .collect();
        assert_eq!(told, [("ann", "PUT /x", 1), ("ann", "PUT /y", 1), ("ann", "PUT /x", 4)]);
    }
}

#[tokio::test]
async fn the_log_is_not_flooded_by_what_nobody_can_count() {
    let World { meta, access, clock, _dir, .. } = worlds().await.remove(0);
    for n in 0..1_100 {
        let from = Some(std::net::Ipv4Addr::from(n).into());
        let attempt = Attempt { who: None, from, call: "GET /".into(), code: domain::ErrorCode::Unauthenticated };
        access.refused(attempt).await.unwrap();
    }
    assert_eq!(*meta.journal().watch().borrow(), 1_024);
    let house = House::new();
    access.attend(&house);
    house.shutdown(std::time::Duration::from_secs(30)).await;
    let last = meta.journal().recent(1).await.unwrap().remove(0);
    assert_eq!((last.body["call"].as_str(), last.body["times"].as_u64()), (Some("others"), Some(76)));

    assert!((0..50).all(|_| !access.is_flooded()));
    assert!(access.is_flooded());
    clock.advance(Span::from_micros(1_000_000));
    assert!(!access.is_flooded(), "a second later they are looked at again");
}

#[tokio::test]
async fn who_is_not_of_the_house_makes_and_ends_no_token_of_the_house() {
    let World { access, meta, _dir, .. } = worlds().await.remove(0);
    let first = first_token(&access).await.expect("nobody holds one");
    let (id, ann) = (&first.id, Admin { name: "ann", house: false });
    let new = NewToken { house: true, ..token("x", Role::Admin, &[], None) };
    assert!(matches!(access.create_token(&project(), new, ann).await, Err(AccessError::NotOfTheHouse)));
    assert!(matches!(access.rotate_token(&project(), id, Span::HOUR, ann).await, Err(AccessError::NotOfTheHouse)));
    assert!(matches!(access.revoke_token(id, ann).await, Err(AccessError::NotOfTheHouse)));
    assert!(access.recognise(&first).await.is_ok());
    assert_eq!(kinds(&meta).await, [EventKind::TokenCreated]);
}

#[test]
fn a_lifetime_is_a_span_or_never() {
    assert_eq!(access::lifetime(None).unwrap(), Some(Span::from_micros(90 * DAY)));
    assert_eq!(access::lifetime(Some("never")).unwrap(), None);
    assert_eq!(access::lifetime(Some("2d")).unwrap(), Some(Span::from_micros(2 * DAY)));
    assert!(access::lifetime(Some("soon")).unwrap_err().to_string().contains("`soon`"));
}

/// The first admin's token, if one is made now.
async fn first_token(access: &Access) -> Option<Secret> {
    let mut kept = None;
    let keep = |secret: &Secret| {
        kept = Some(secret.clone());
        Ok(())
    };
    let made = access.first_token(&access::default_project(), keep).await.unwrap();
    assert_eq!(made, kept.is_some());
    kept
}

#[tokio::test]
async fn the_first_admin_gets_a_token_once_and_again_when_nobody_holds_one() {
    let World { access, meta, _dir, .. } = worlds().await.remove(0);
    let lost = |_: &Secret| Err(std::io::Error::other("the disk is full"));
    let refused = access.first_token(&access::default_project(), lost).await.expect_err("not kept");
    assert!(refused.to_string().contains("the disk is full"));
    assert!(access.tokens().await.is_empty() && kinds(&meta).await.is_empty(), "what nobody knows holds nothing");

    let first = first_token(&access).await.expect("nobody holds one");
    let token = access.recognise(&first).await.unwrap();
    assert!(token.house && token.role == Role::Admin);
    assert!(first_token(&access).await.is_none());
    let ann = Caller { name: Some("ann".into()), request: None };
    storage::acting(ann, access.revoke_token(&first.id, ROOT)).await.unwrap();
    assert_eq!(meta.journal().recent(1).await.unwrap()[0].actor, "ann");
    assert!(first_token(&access).await.is_some());
}
