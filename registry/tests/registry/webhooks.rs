//! What webhooks are told, and what becomes of it when receivers are slow, broken or gone.

use std::time::Duration;

use domain::{Coded, ErrorCode, EventKind, ModelName, NewEvent, Span, WebhookId, state::DeliveryState};
use registry::{
    Delivery, NewModel, NewWebhook, RegistryError, Secret, Subscription, Webhook, WebhookChange, WebhookSettings,
    WebhookStatus,
};
use runtime::House;
use serde_json::json;

use crate::{
    receiver::{Received, Receiver},
    world::{World, model, reference, version_of},
};

const ATTEMPTS: usize = 3;

fn deliver(world: &World) -> House {
    let house = House::new();
    let settings = WebhookSettings { allow_private: true, attempts: ATTEMPTS, first_retry: Span::from_micros(5_000) };
    world.registry.deliver_webhooks(&house, settings);
    house
}

async fn hook(world: &World, receiver: &Receiver, events: &[&str]) -> Webhook {
    let new = NewWebhook {
        name: "tests".into(),
        url: receiver.url(),
        events: events.iter().map(|event| event.parse().unwrap()).collect(),
        description: String::new(),
        secret: Some(Secret::new("sesame".into())),
        status: WebhookStatus::Active,
    };
    world.registry.create_webhook(new, "tester").await.unwrap()
}

async fn deliveries(world: &World, id: &WebhookId) -> Vec<Delivery> {
    world.registry.deliveries(id, 2_000).await.unwrap()
}

/// The next message; time passes for the sender while it is waited for.
async fn next(world: &World, receiver: &Receiver) -> Received {
    for _ in 0..3_000 {
        if let Some(received) = tokio::task::block_in_place(|| receiver.within(Duration::from_millis(20))) {
            return received;
        }
        world.clock.advance(Span::HOUR);
    }
    panic!("a message comes within a minute");
}

/// Waits until the newest delivery has ended.
async fn ended(world: &World, id: &WebhookId) -> Delivery {
    for _ in 0..3_000 {
        if let Some(newest) = deliveries(world, id).await.into_iter().next()
            && newest.state != DeliveryState::Waiting
        {
            return newest;
        }
        world.clock.advance(Span::HOUR);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it ends within a minute");
}

async fn tag(world: &World, value: &str) {
    world.registry.tag_version(&reference(1), "k", value).await.unwrap();
}

async fn shelf() -> World {
    let world = World::new().await;
    let run = world.run().await;
    world.registry.register(version_of(run, b"1")).await.unwrap();
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_of_a_model_is_told_in_order_and_once() {
    let world = World::new().await;
    let house = deliver(&world);
    let receiver = Receiver::start(&[200]);
    let all = [
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_tag.deleted",
        "model_version_alias.created",
        "model_version_alias.deleted",
    ];
    let webhook = hook(&world, &receiver, &all).await;
    let run = world.run().await;
    world.registry.register(version_of(run, b"1")).await.unwrap();
    tag(&world, "v").await;
    tag(&world, "v").await;
    world.registry.untag_version(&reference(1), "k").await.unwrap();
    world.registry.set_alias(&model(), "champion", 1, "tester", "").await.unwrap();
    world.registry.remove_alias(&model(), "champion", "tester").await.unwrap();
    world.registry.describe_model(&model(), "nobody is told").await.unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for event in all {
        let received = next(&world, &receiver).await;
        let body = received.json();
        assert_eq!(format!("{}.{}", body["entity"].as_str().unwrap(), body["action"].as_str().unwrap()), event);
        assert_eq!(body["data"]["name"], "flight-delay");
        assert!(received.headers["x-mlflow-signature"].starts_with("v1,") && received.path == "/hook");
        assert!(ids.insert(received.delivery().to_owned()));
    }
    let last = ended(&world, &webhook.id).await;
    assert_eq!((last.state, last.attempts, last.last_status), (DeliveryState::Delivered, 1, Some(200)));
    assert!(receiver.within(Duration::from_millis(50)).is_none());
    assert!(house.shutdown(Duration::from_secs(20)).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_in_trouble_is_tried_again_and_then_given_up() {
    let world = shelf().await;
    let _house = deliver(&world);
    let receiver = Receiver::start(&[503, 429, 204]);
    let webhook = hook(&world, &receiver, &["model_version_tag.set"]).await;
    tag(&world, "1").await;
    let first = next(&world, &receiver).await;
    for _ in 0..2 {
        let again = next(&world, &receiver).await;
        assert_eq!((again.delivery(), &again.body), (first.delivery(), &first.body), "the same message, the same id");
    }
    let done = ended(&world, &webhook.id).await;
    assert_eq!((done.state, done.attempts, done.last_status), (DeliveryState::Delivered, 3, Some(204)));

    // A mistake of ours is not repeated, a redirect not followed, trouble not for ever.
    for (status, attempts, error) in
        [(404, 1, "status 404"), (302, 1, "redirects"), (500, ATTEMPTS as u32, "status 500")]
    {
        receiver.answer(status);
        tag(&world, &status.to_string()).await;
        next(&world, &receiver).await;
        let lost = ended(&world, &webhook.id).await;
        assert_eq!((lost.state, lost.attempts, lost.last_status), (DeliveryState::Failed, attempts, Some(status)));
        assert!(lost.last_error.as_ref().unwrap().contains(error), "{lost:?}");
        let told = world.meta.journal().about(&format!("webhook/{}", webhook.id), 1).await.unwrap();
        assert_eq!((told[0].kind, told[0].cause), (EventKind::WebhookGaveUp, Some(lost.seq)));
        while receiver.within(Duration::from_millis(50)).is_some() {}
    }
    // What comes later is told all the same.
    receiver.answer(200);
    tag(&world, "later").await;
    assert_eq!(next(&world, &receiver).await.json()["data"]["value"], "later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_answer_holds_up_nobody_else() {
    let world = shelf().await;
    let _house = deliver(&world);
    let (dead, alive) = (Receiver::start(&[0]), Receiver::start(&[200]));
    let stuck = hook(&world, &dead, &["model_version_tag.set"]).await;
    hook(&world, &alive, &["model_version_tag.set"]).await;
    for n in 0..5 {
        tag(&world, &n.to_string()).await;
    }
    for n in 0..5 {
        assert_eq!(alive.next().json()["data"]["value"], n.to_string());
    }
    dead.next();
    assert!(deliveries(&world, &stuck.id).await.iter().all(|one| one.state == DeliveryState::Waiting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_on_its_way_is_sent_again_after_a_restart() {
    let world = shelf().await;
    let house = deliver(&world);
    let receiver = Receiver::start(&[0]);
    let webhook = hook(&world, &receiver, &["model_version_tag.set"]).await;
    for n in 0..3 {
        tag(&world, &n.to_string()).await;
    }
    let begun = receiver.next();
    house.shutdown(Duration::from_secs(20)).await;
    drop(house);
    // Nobody delivers now.
    tag(&world, "3").await;
    receiver.answer(200);
    let world = world.reopen().await;
    let _house = deliver(&world);
    let mut values = Vec::new();
    for _ in 0..4 {
        let received = next(&world, &receiver).await;
        if values.is_empty() {
            assert_eq!(received.delivery(), begun.delivery(), "under the same id");
        }
        values.push(received.json()["data"]["value"].clone());
    }
    assert_eq!(values, ["0", "1", "2", "3"], "none lost, none twice, in order");
    assert_eq!(ended(&world, &webhook.id).await.state, DeliveryState::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_webhook_is_told_nothing_and_a_deleted_one_leaves_nothing() {
    let world = shelf().await;
    let _house = deliver(&world);
    let receiver = Receiver::start(&[200]);
    let webhook = hook(&world, &receiver, &["model_version_tag.set"]).await;
    let set = async |status| {
        let change = WebhookChange { status: Some(status), ..WebhookChange::default() };
        world.registry.change_webhook(&webhook.id, change, "tester").await.unwrap()
    };
    assert_eq!(set(WebhookStatus::Disabled).await.status, WebhookStatus::Disabled);
    tag(&world, "unheard").await;
    set(WebhookStatus::Active).await;
    tag(&world, "heard").await;
    assert_eq!(next(&world, &receiver).await.json()["data"]["value"], "heard");
    assert_eq!(deliveries(&world, &webhook.id).await.len(), 1);
    world.registry.delete_webhook(&webhook.id, "tester").await.unwrap();
    let gone = world.registry.deliveries(&webhook.id, 9).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
    let left: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM registry_deliveries").fetch_one(world.meta.reader()).await.unwrap();
    assert_eq!(left, 0);
    tag(&world, "nobody").await;
    assert!(receiver.within(Duration::from_millis(100)).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_receiver_can_take_is_recorded_as_lost() {
    let world = shelf().await;
    let receiver = Receiver::start(&[0]);
    let _house = deliver(&world);
    let webhook = hook(&world, &receiver, &["model_version_alias.created"]).await;
    let mut tx = world.meta.begin().await.unwrap();
    for n in 0..1_003 {
        let body = json!({"model": "flight-delay", "alias": format!("a{n}"), "from": null, "to": 1});
        let (kind, subject) = (EventKind::AliasMoved, format!("model/flight-delay/alias/a{n}"));
        let (at, actor) = (world.clock.now(), "tester".to_owned());
        tx.append(NewEvent { at, kind, subject, actor, cause: None, body }).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut all = Vec::new();
    for _ in 0..3_000 {
        all = deliveries(&world, &webhook.id).await;
        if all.len() == 1_003 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lost: Vec<_> = all.iter().filter(|one| one.state == DeliveryState::Failed).collect();
    assert_eq!((all.len(), lost.len()), (1_003, 3));
    assert!(lost[0].last_error.as_ref().unwrap().contains("1000 deliveries wait"));
}

#[tokio::test]
async fn a_webhook_that_is_not_lawful_is_refused_and_its_secret_is_never_shown() {
    let world = shelf().await;
    let lawful = NewWebhook {
        name: "ok".into(),
        url: "https://93.184.216.34/hook?token=abc".into(),
        events: vec!["model_version.created".parse().unwrap()],
        description: String::new(),
        secret: Some(Secret::new("sesame".into())),
        status: WebhookStatus::Active,
    };
    let refused = async |new: NewWebhook| {
        let error: RegistryError = world.registry.create_webhook(new, "tester").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    };
    for name in ["", "-x", "x.", "a b", &"x".repeat(64), "é"] {
        refused(NewWebhook { name: name.into(), ..lawful.clone() }).await;
    }
    refused(NewWebhook { url: "https://10.0.0.1/".into(), ..lawful.clone() }).await;
    refused(NewWebhook { events: Vec::new(), ..lawful.clone() }).await;
    refused(NewWebhook { description: "x".repeat(1_001), ..lawful.clone() }).await;
    refused(NewWebhook { secret: Some(Secret::new("x".repeat(1_001))), ..lawful.clone() }).await;
    assert!(world.registry.webhooks(9, None).await.unwrap().items.is_empty());

    let twice: Vec<Subscription> = [lawful.events.clone(), lawful.events.clone()].concat();
    let made = world.registry.create_webhook(NewWebhook { events: twice, ..lawful.clone() }, "tester").await.unwrap();
    assert_eq!((made.events.len(), made.signed), (1, true));
    assert!(!format!("{lawful:?}{made:?}{}", json!(made)).contains("sesame"));
    for event in world.meta.journal().recent(99).await.unwrap() {
        assert!(!event.body.to_string().contains("sesame") && !event.body.to_string().contains("token"), "{event:?}");
    }
    let unsigned = WebhookChange { secret: Some(None), ..WebhookChange::default() };
    assert!(!world.registry.change_webhook(&made.id, unsigned, "tester").await.unwrap().signed);
    let private = WebhookChange { url: Some("https://[::1]/".into()), ..WebhookChange::default() };
    assert_eq!(
        world.registry.change_webhook(&made.id, private, "tester").await.unwrap_err().code(),
        ErrorCode::InvalidArgument
    );
    assert_eq!(world.registry.webhook(&made.id).await.unwrap().url, lawful.url, "as it was");

    let other = world.registry.create_webhook(NewWebhook { name: "two".into(), ..lawful }, "tester").await.unwrap();
    let page = world.registry.webhooks(1, None).await.unwrap();
    assert_eq!((page.items[0].id, page.next.clone().unwrap()), (other.id, other.id.to_string()));
    let rest = world.registry.webhooks(1, Some(page.next.unwrap().parse().unwrap())).await.unwrap();
    assert_eq!((rest.items[0].id, rest.next), (made.id, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_says_what_the_receiver_answered() {
    let world = shelf().await;
    let _house = deliver(&world);
    let receiver = Receiver::start(&[200, 500]);
    let webhook = hook(&world, &receiver, &["model_version.created", "model_version_tag.set"]).await;
    let fine = world.registry.test_webhook(&webhook.id, None).await.unwrap();
    assert_eq!((fine.success, fine.response_status, fine.response_body.as_deref()), (true, Some(200), Some("done")));
    assert_eq!(receiver.next().json()["entity"], "model_version");
    let tags = "model_version_tag.set".parse().unwrap();
    let broken = world.registry.test_webhook(&webhook.id, Some(tags)).await.unwrap();
    assert_eq!((broken.success, broken.response_status), (false, Some(500)));
    assert_eq!(receiver.next().json()["data"]["key"], "example_key");
    let nobody = WebhookChange { url: Some("http://127.0.0.1:1/".into()), ..WebhookChange::default() };
    world.registry.change_webhook(&webhook.id, nobody, "tester").await.unwrap();
    let gone = world.registry.test_webhook(&webhook.id, None).await.unwrap();
    assert!(!gone.success && gone.response_status.is_none() && gone.error_message.is_some(), "{gone:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_told_of_as_one() {
    let world = World::new().await;
    let _house = deliver(&world);
    let receiver = Receiver::start(&[200]);
    hook(&world, &receiver, &["prompt.created", "registered_model.created"]).await;
    let name: ModelName = "greeting".parse().unwrap();
    let tags =
        [("mlflow.prompt.is_prompt".to_owned(), "true".to_owned()), ("team".to_owned(), "ops".to_owned())].into();
    let new = NewModel { name, description: "hello".into(), tags, user_id: String::new() };
    world.registry.create_model(new).await.unwrap();
    let body = next(&world, &receiver).await.json();
    assert_eq!(body["entity"], "prompt");
    assert_eq!(body["data"], json!({"name": "greeting", "tags": {"team": "ops"}, "description": "hello"}));
}
