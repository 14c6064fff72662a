//! Webhooks.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use domain::{ErrorCode, WebhookId};
use registry::{NewWebhook, Secret, Subscription, Webhook, WebhookChange, WebhookStatus};
use serde_json::{Value, json};

use super::wire::{Answer, Fields, Refusal, done, trimmed};
use crate::app::App;

/// Who stands in the journal for what comes through this door.
const ACTOR: &str = "mlflow";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/webhooks", post(create).get(list))
        .route("/webhooks/{id}", get(read).patch(update).delete(delete))
        .route("/webhooks/{id}/test", post(test))
}

async fn create(State(app): State<App>, fields: Fields) -> Answer {
    let new = NewWebhook {
        name: fields.text("name")?,
        url: fields.text("url")?,
        events: events(&fields)?,
        description: fields.text_opt("description")?.unwrap_or_default(),
        secret: secret(&fields)?,
        status: status(&fields)?.unwrap_or_default(),
    };
    answer(&app.registry.create_webhook(new, &storage::caller_or(ACTOR)).await?)
}

async fn list(State(app): State<App>, fields: Fields) -> Answer {
    let limit = fields.max_results(100, 1_000)?;
    let token = Some(fields.page_token()?).filter(|token| !token.is_empty());
    let wrong = |_| Refusal::invalid("Invalid value for parameter 'page_token': it is not of an earlier page");
    let after = token.map(|token| token.parse::<WebhookId>().map_err(wrong)).transpose()?;
    let page = app.registry.webhooks(limit, after).await?;
    let webhooks: Vec<Value> = page.items.iter().map(webhook_json).collect();
    Ok(Json(trimmed(json!({"webhooks": webhooks, "next_page_token": page.next}))))
}

async fn read(State(app): State<App>, Path(id): Path<String>) -> Answer {
    answer(&app.registry.webhook(&webhook_id(&id)?).await?)
}

async fn update(State(app): State<App>, Path(id): Path<String>, fields: Fields) -> Answer {
    let given = |name| Ok::<_, Refusal>(fields.text_opt(name)?.filter(|text| !text.is_empty()));
    let listed = events(&fields)?;
    let change = WebhookChange {
        name: given("name")?,
        url: given("url")?,
        events: Some(listed).filter(|events| !events.is_empty()),
        description: fields.text_opt("description")?,
        // An empty one takes the secret away.
        secret: if fields.has("secret") { Some(secret(&fields)?) } else { None },
        status: status(&fields)?,
    };
    answer(&app.registry.change_webhook(&webhook_id(&id)?, change, &storage::caller_or(ACTOR)).await?)
}

async fn delete(State(app): State<App>, Path(id): Path<String>) -> Answer {
    app.registry.delete_webhook(&webhook_id(&id)?, &storage::caller_or(ACTOR)).await?;
    done()
}

async fn test(State(app): State<App>, Path(id): Path<String>, fields: Fields) -> Answer {
    let event = fields.raw("event").map(|event| subscription(&Fields::of("event", event)?)).transpose()?;
    let result = app.registry.test_webhook(&webhook_id(&id)?, event).await?;
    Ok(Json(trimmed(json!({"result": result}))))
}

/// What is not even an id names no webhook either.
fn webhook_id(text: &str) -> Result<WebhookId, Refusal> {
    text.parse().map_err(|_| Refusal::new(ErrorCode::NotFound, format!("webhook `{text}` does not exist")))
}

fn secret(fields: &Fields) -> Result<Option<Secret>, Refusal> {
    Ok(fields.text_opt("secret")?.filter(|secret| !secret.is_empty()).map(Secret::new))
}

fn status(fields: &Fields) -> Result<Option<WebhookStatus>, Refusal> {
    let read = |text: String| {
        let wrong =
            || Refusal::invalid(format!("Invalid value {text:?} for parameter 'status': use ACTIVE or DISABLED"));
        WebhookStatus::parse(&text).ok_or_else(wrong)
    };
    fields.text_opt("status")?.filter(|text| !text.is_empty()).map(read).transpose()
}

fn events(fields: &Fields) -> Result<Vec<Subscription>, Refusal> {
    fields.objects("events")?.iter().map(subscription).collect()
}

fn subscription(event: &Fields) -> Result<Subscription, Refusal> {
    Ok(Subscription::of(&event.text("entity")?, &event.text("action")?)?)
}

fn answer(webhook: &Webhook) -> Answer {
    Ok(Json(trimmed(json!({"webhook": webhook_json(webhook)}))))
}

fn webhook_json(webhook: &Webhook) -> Value {
    let event = |event: &Subscription| json!({"entity": event.entity.as_str().to_uppercase(), "action": event.action.as_str().to_uppercase()});
    let millis = |at: domain::Timestamp| at.micros().div_euclid(1_000);
    json!({
        "webhook_id": webhook.id,
        "name": webhook.name,
        "url": webhook.url,
        "events": webhook.events.iter().map(event).collect::<Vec<_>>(),
        "description": Some(&webhook.description).filter(|text| !text.is_empty()),
        "status": webhook.status.as_str(),
        "creation_timestamp": millis(webhook.created_at),
        "last_updated_timestamp": millis(webhook.updated_at),
    })
}
