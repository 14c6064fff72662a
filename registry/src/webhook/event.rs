//! MLflow's events: which there are, and what of the journal each of ours is to its receivers.

use std::{collections::BTreeMap, fmt, str::FromStr};

use domain::{Event, EventKind, ModelRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::RegistryError;

/// The tags that MLflow keeps a prompt's own things in.
const PROMPT_TAGS: [&str; 2] = [crate::model::PROMPT_TAG, "_mlflow_prompt_type"];
const PROMPT_TEXT: &str = "mlflow.prompt.text";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// As payloads write it; the API writes it in capitals.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Reads either form.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                [$(Self::$variant),+].into_iter().find(|word| word.as_str().eq_ignore_ascii_case(text))
            }
        }
    };
}

words! {
    /// What changed.
    Entity {
        RegisteredModel = "registered_model",
        ModelVersion = "model_version",
        ModelVersionTag = "model_version_tag",
        ModelVersionAlias = "model_version_alias",
        Prompt = "prompt",
        PromptVersion = "prompt_version",
        PromptTag = "prompt_tag",
        PromptVersionTag = "prompt_version_tag",
        PromptAlias = "prompt_alias",
    }
}

words! {
    /// What happened to it.
    Action { Created = "created", Deleted = "deleted", Set = "set" }
}

/// A kind of event that a webhook is told of; written `model_version.created`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subscription {
    pub entity: Entity,
    pub action: Action,
}

impl Subscription {
    /// The kind of these words, in either case.
    ///
    /// # Errors
    /// Words that there are not, or that do not go together.
    pub fn of(entity: &str, action: &str) -> Result<Self, RegistryError> {
        let refuse = |problem: &str, hint| {
            Err(RegistryError::invalid(format!("event {:?}", format!("{entity}.{action}")), problem, hint))
        };
        let Some(known) = Entity::parse(entity) else {
            return refuse("is not one that happens here", "see docs/mlflow.md for the events that are sent");
        };
        use {Action as A, Entity as E};
        let lawful: &[A] = match known {
            E::RegisteredModel | E::ModelVersion | E::Prompt | E::PromptVersion => &[A::Created],
            E::ModelVersionTag | E::PromptTag | E::PromptVersionTag => &[A::Set, A::Deleted],
            E::ModelVersionAlias | E::PromptAlias => &[A::Created, A::Deleted],
        };
        match Action::parse(action).filter(|action| lawful.contains(action)) {
            Some(action) => Ok(Self { entity: known, action }),
            None => refuse(
                "has an action that this entity does not have",
                "models and versions are CREATED, tags SET or DELETED, aliases CREATED or DELETED",
            ),
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entity.as_str(), self.action.as_str())
    }
}

impl FromStr for Subscription {
    type Err = RegistryError;
    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let (entity, action) = text.split_once('.').unwrap_or((text, ""));
        Self::of(entity, action)
    }
}

impl TryFrom<String> for Subscription {
    type Error = RegistryError;
    fn try_from(text: String) -> Result<Self, RegistryError> {
        text.parse()
    }
}

impl From<Subscription> for String {
    fn from(event: Subscription) -> Self {
        event.to_string()
    }
}

/// What receivers are told of an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) event: Subscription,
    data: Value,
}

impl Told {
    const fn new(entity: Entity, action: Action, data: Value) -> Self {
        Self { event: Subscription { entity, action }, data }
    }

    /// The body of the message, the same in every attempt.
    pub(crate) fn body(&self, at: domain::Timestamp) -> String {
        // As Python writes instants.
        let at = at.to_string().replace('Z', "+00:00");
        json!({
            "entity": self.event.entity.as_str(), "action": self.event.action.as_str(), "timestamp": at,
            "data": self.data,
        })
        .to_string()
    }

    /// An event of the kind, made up.
    pub(crate) fn example(of: Subscription) -> Self {
        use {Action as A, Entity as E};
        let (name, version) = ("example_model", "1");
        let tags = json!({"example_key": "example_value"});
        let data = match (of.entity, of.action) {
            (E::RegisteredModel | E::Prompt, _) => json!({"name": name, "tags": tags, "description": "An example"}),
            (E::ModelVersion, _) => json!({
                "name": name, "version": version, "source": "models:/123", "run_id": "abcd1234abcd5678", "tags": tags,
                "description": "An example",
            }),
            (E::PromptVersion, _) => json!({
                "name": name, "version": version, "template": "Hello {{name}}!", "tags": tags,
                "description": "An example",
            }),
            (E::ModelVersionTag | E::PromptVersionTag, A::Set) => {
                json!({"name": name, "version": version, "key": "example_key", "value": "example_value"})
            }
            (E::ModelVersionTag | E::PromptVersionTag, _) => {
                json!({"name": name, "version": version, "key": "example_key"})
            }
            (E::PromptTag, A::Set) => json!({"name": name, "key": "example_key", "value": "example_value"}),
            (E::PromptTag, _) => json!({"name": name, "key": "example_key"}),
            (E::ModelVersionAlias | E::PromptAlias, A::Created) => {
                json!({"name": name, "alias": "example_alias", "version": version})
            }
            (E::ModelVersionAlias | E::PromptAlias, _) => json!({"name": name, "alias": "example_alias"}),
        };
        Self { event: of, data }
    }
}

/// The model that an event is about, where receivers may be told of it.
pub(crate) fn model_of(event: &Event) -> Option<&str> {
    use EventKind as K;
    let about = match event.kind {
        K::ModelCreated
        | K::ModelChanged
        | K::VersionRegistered
        | K::VersionChanged
        | K::AliasMoved
        | K::AliasRemoved => event.subject.strip_prefix("model/")?,
        _ => return None,
    };
    about.split('/').next()
}

/// What receivers are told of an event; `None` of most. `prompt`: whether the model is one that MLflow keeps a prompt in.
pub(crate) fn told(event: &Event, prompt: bool) -> Option<Told> {
    use {Action as A, Entity as E, EventKind as K};
    let (name, body) = (model_of(event)?, &event.body);
    let description = Some(&body["description"]).filter(|text| text.as_str().is_some_and(|text| !text.is_empty()));
    match event.kind {
        K::ModelCreated => {
            let tags = if prompt { without(&body["tags"], &PROMPT_TAGS) } else { tags(&body["tags"]) };
            let entity = if prompt { E::Prompt } else { E::RegisteredModel };
            Some(Told::new(entity, A::Created, json!({"name": name, "tags": tags, "description": description})))
        }
        K::VersionRegistered if prompt => {
            let text = body["tags"][PROMPT_TEXT].as_str();
            let tags = without(&body["tags"], &[PROMPT_TAGS[0], PROMPT_TAGS[1], PROMPT_TEXT]);
            let version = body["version"].to_string();
            let data = json!({
                "name": name, "version": version, "template": text, "tags": tags, "description": description,
            });
            Some(Told::new(E::PromptVersion, A::Created, data))
        }
        K::VersionRegistered => {
            let data = json!({
                "name": name, "version": body["version"].to_string(), "source": body["source"], "run_id": body["run"],
                "tags": tags(&body["tags"]), "description": description,
            });
            Some(Told::new(E::ModelVersion, A::Created, data))
        }
        K::VersionChanged => {
            let key = body.get("tag")?;
            let reference: ModelRef = event.subject.strip_prefix("model/")?.parse().ok()?;
            let entity = if prompt { E::PromptVersionTag } else { E::ModelVersionTag };
            let version = reference.version.to_string();
            Some(match &body["value"] {
                Value::Null => Told::new(entity, A::Deleted, json!({"name": name, "version": version, "key": key})),
                value => {
                    Told::new(entity, A::Set, json!({"name": name, "version": version, "key": key, "value": value}))
                }
            })
        }
        // MLflow tells of a model's own tags only where it is a prompt.
        K::ModelChanged if prompt => {
            let key = body.get("tag")?;
            Some(match &body["value"] {
                Value::Null => Told::new(E::PromptTag, A::Deleted, json!({"name": name, "key": key})),
                value => Told::new(E::PromptTag, A::Set, json!({"name": name, "key": key, "value": value})),
            })
        }
        K::AliasMoved => {
            let entity = if prompt { E::PromptAlias } else { E::ModelVersionAlias };
            let data = json!({"name": name, "alias": body["alias"], "version": body["to"].to_string()});
            Some(Told::new(entity, A::Created, data))
        }
        K::AliasRemoved => {
            let entity = if prompt { E::PromptAlias } else { E::ModelVersionAlias };
            Some(Told::new(entity, A::Deleted, json!({"name": name, "alias": body["alias"]})))
        }
        _ => None,
    }
}

fn tags(tags: &Value) -> BTreeMap<String, Value> {
    without(tags, &[])
}

fn without(tags: &Value, keys: &[&str]) -> BTreeMap<String, Value> {
    let all = tags.as_object().into_iter().flatten();
    all.filter(|(key, _)| !keys.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, subject: &str, body: Value) -> Event {
        let at = "2026-11-25T12:00:00.5Z".parse().unwrap();
        Event { seq: 1, at, kind, subject: subject.into(), actor: "a".into(), cause: None, request: None, body }
    }

    fn said(event: &Event, prompt: bool) -> Option<(String, Value)> {
        let told = told(event, prompt)?;
        let body: Value = serde_json::from_str(&told.body(event.at)).unwrap();
        assert_eq!(
            (&body["entity"], &body["action"]),
            (&json!(told.event.entity.as_str()), &json!(told.event.action.as_str()))
        );
        assert!(body["timestamp"].as_str().unwrap().ends_with("+00:00"), "{body}");
        Some((told.event.to_string(), body["data"].clone()))
    }

    #[test]
    fn events_of_the_journal_are_told_in_mlflows_form() {
        use EventKind as K;
        let made = json!({"tags": {"a": "b"}, "description": "x"});
        let registered = json!({
            "model": "m n", "version": 3, "run": null, "source": "s3://b/x", "tags": {}, "description": "", "files": {},
        });
        for (event, name, data) in [
            (
                event(K::ModelCreated, "model/m n", made),
                "registered_model.created",
                json!({"name": "m n", "tags": {"a": "b"}, "description": "x"}),
            ),
            (
                event(K::VersionRegistered, "model/m n/3", registered),
                "model_version.created",
                json!({"name": "m n", "version": "3", "source": "s3://b/x", "run_id": null, "tags": {}, "description": null}),
            ),
            (
                event(K::VersionChanged, "model/m/3", json!({"tag": "k", "value": "v"})),
                "model_version_tag.set",
                json!({"name": "m", "version": "3", "key": "k", "value": "v"}),
            ),
            (
                event(K::VersionChanged, "model/m/3", json!({"tag": "k", "value": null})),
                "model_version_tag.deleted",
                json!({"name": "m", "version": "3", "key": "k"}),
            ),
            (
                event(
                    K::AliasMoved,
                    "model/m/alias/champion",
                    json!({"model": "m", "alias": "champion", "from": 2, "to": 3}),
                ),
                "model_version_alias.created",
                json!({"name": "m", "alias": "champion", "version": "3"}),
            ),
            (
                event(K::AliasRemoved, "model/m/alias/champion", json!({"model": "m", "alias": "champion"})),
                "model_version_alias.deleted",
                json!({"name": "m", "alias": "champion"}),
            ),
        ] {
            assert_eq!(said(&event, false), Some((name.to_owned(), data)));
        }
        for silent in [
            event(K::VersionChanged, "model/m/3", json!({"stage": "Staging"})),
            event(K::ModelChanged, "model/m", json!({"tag": "k", "value": "v"})),
            event(K::RunStarted, "run/x", json!({})),
            event(K::ApprovalAsked, "model/m/alias/champion", json!({})),
        ] {
            assert_eq!(said(&silent, false), None);
        }
    }

    #[test]
    fn a_prompt_is_told_of_as_one() {
        use EventKind as K;
        let tags = json!({"mlflow.prompt.is_prompt": "true", "mlflow.prompt.text": "Hello {{name}}!", "team": "ops"});
        let made = event(K::VersionRegistered, "model/p/1", json!({"version": 1, "tags": tags, "description": "d"}));
        let data = json!({"name": "p", "version": "1", "template": "Hello {{name}}!", "tags": {"team": "ops"}, "description": "d"});
        assert_eq!(said(&made, true), Some(("prompt_version.created".to_owned(), data)));
        let tagged = event(K::ModelChanged, "model/p", json!({"tag": "k", "value": "v"}));
        assert_eq!(said(&tagged, true).unwrap().0, "prompt_tag.set");
        let named = event(K::AliasMoved, "model/p/alias/x", json!({"alias": "x", "to": 1}));
        assert_eq!(said(&named, true).unwrap().0, "prompt_alias.created");
    }

    #[test]
    fn every_kind_reads_back_and_has_an_example() {
        for text in ["registered_model.created", "model_version_tag.set", "prompt_alias.deleted"] {
            let event: Subscription = text.parse().unwrap();
            assert_eq!(event.to_string(), text);
            assert_eq!(Told::example(event).data["name"], "example_model");
        }
        assert_eq!(Subscription::of("MODEL_VERSION", "CREATED").unwrap().to_string(), "model_version.created");
        for bad in
            ["model_version.deleted", "registered_model.updated", "budget_policy.exceeded", "x", "model_version."]
        {
            assert!(bad.parse::<Subscription>().is_err(), "{bad}");
        }
    }
}
