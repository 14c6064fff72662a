//! Applying definitions: everything is checked together, then each goes to the room that owns it.

use domain::{
    EventKind, ModelRef, NewEvent,
    definition::{Definition, Endpoint},
    error::{Coded, ErrorCode},
};
use feature_store::{Action, Change};
use storage::sql::Pool;

use crate::{
    check::{self, Catalog, Problem},
    conductor::{Conductor, Known, append, commit},
    error::{Asking as _, ConductorError, During as _, stored, to_json},
};

/// The applied pipelines and endpoints.
pub(crate) async fn load(pool: &Pool) -> Result<Known, ConductorError> {
    let rows: Vec<(String,)> = sqlx::query_as("SELECT body FROM conductor_definitions ORDER BY kind, name")
        .fetch_all(pool)
        .await
        .during("read definitions")?;
    let mut known = Known::default();
    for (body,) in rows {
        match stored("definition", &body)? {
            Definition::Pipeline(d) => drop(known.pipelines.insert(d.name.clone(), d)),
            Definition::Endpoint(d) => drop(known.endpoints.insert(d.name.clone(), d)),
            other => {
                return Err(ConductorError::Corrupt {
                    what: "definition",
                    reason: format!("a {} is not kept here", other.kind()),
                });
            }
        }
    }
    Ok(known)
}

impl Conductor {
    /// Checks all definitions together with those applied before, then applies them; `dry_run` only says what would
    /// happen. Applying the same definitions again changes nothing and writes nothing.
    ///
    /// # Errors
    /// `Invalid` with every problem found; then nothing was written. An endpoint in service that its versions no
    /// longer fit is refused as a whole too.
    pub async fn apply(
        &self,
        definitions: Vec<Definition>,
        actor: &str,
        dry_run: bool,
    ) -> Result<Vec<Change>, ConductorError> {
        self.conducts()?;
        let _alone = self.0.changing.lock().await;
        let features = &self.rooms().features;
        let before = self.known(Clone::clone);
        let applied: Vec<Definition> = self.definitions();
        let catalog = Catalog::new(applied.iter().chain(&definitions));
        let mut problems = check::check(&definitions, &catalog);
        problems.extend(self.misfits(&catalog).await?);
        let planned = match features.plan(&definitions).await {
            Ok(planned) => planned,
            Err(e) if e.code() == ErrorCode::InvalidArgument && !problems.is_empty() => {
                problems.insert(0, feature_problem(&e));
                Vec::new()
            }
            Err(e) => return Err(e).asking("plan the feature definitions"),
        };
        if !problems.is_empty() {
            return Err(ConductorError::Invalid(problems));
        }
        let changes = merge(&definitions, planned, &before);
        if dry_run || changes.iter().all(|change| change.action == Action::Unchanged) {
            return Ok(changes);
        }
        features.apply(&definitions, actor).await.asking("apply the feature definitions")?;
        self.write(&definitions, &changes, &before, actor).await?;
        Ok(changes)
    }

    /// Versions in service that would miss a column of their feature service.
    async fn misfits(&self, catalog: &Catalog<'_>) -> Result<Vec<Problem>, ConductorError> {
        let mut problems = Vec::new();
        let names: Vec<_> = self.known(|known| known.endpoints.keys().cloned().collect());
        for name in names {
            let Some(deployed) = self.deployed(&name).await? else { continue };
            let Some((model, columns)) = catalog.served(name.as_str()) else { continue };
            for version in deployed.versions() {
                let version = ModelRef { model: model.clone(), version };
                let signature = self.rooms().registry.version(&version).await.asking("look at a version")?.signature;
                for input in signature.inputs.iter().filter(|input| !columns.iter().any(|c| c.name == input.name)) {
                    problems.push(Problem {
                        kind: "Endpoint",
                        name: name.to_string(),
                        field: "service".into(),
                        message: format!(
                            "version {version} in service reads `{}`, which it would not have",
                            input.name
                        ),
                    });
                }
            }
        }
        Ok(problems)
    }

    /// Everything applied, in the order in which it can be applied again.
    #[must_use]
    pub fn definitions(&self) -> Vec<Definition> {
        let mut all = self.rooms().features.definitions();
        self.known(|known| {
            all.extend(known.pipelines.values().cloned().map(Definition::Pipeline));
            all.extend(known.endpoints.values().cloned().map(Definition::Endpoint));
        });
        all
    }

    /// Puts endpoints in service in their new shape first, since only that tells whether their versions fit; then writes.
    /// When writing fails they go back to what they were.
    async fn write(
        &self,
        definitions: &[Definition],
        changes: &[Change],
        before: &Known,
        actor: &str,
    ) -> Result<(), ConductorError> {
        let mut tried: Vec<&Endpoint> = Vec::new();
        let changed: Vec<&Definition> = own_changes(definitions, changes);
        let written = async {
            for known in before.endpoints.values() {
                let changed = changed.iter().find_map(|definition| match definition {
                    Definition::Endpoint(endpoint) if endpoint.name == known.name => Some(endpoint),
                    _ => None,
                });
                // An unchanged one is shaped by its feature service too, which may have changed.
                let endpoint = changed.unwrap_or(known);
                self.reshape(endpoint).await?;
                tried.push(endpoint);
            }
            self.store(&changed, before, actor).await
        }
        .await;
        if let Err(error) = written {
            for endpoint in tried.iter().filter_map(|e| before.endpoints.get(&e.name)) {
                if let Err(e) = self.reshape(endpoint).await {
                    tracing::error!(endpoint = %endpoint.name, error = %e, "could not put the endpoint back");
                }
            }
            return Err(error);
        }
        self.reload().await?;
        for endpoint in tried {
            self.watch_endpoint(&endpoint.name).await?;
        }
        Ok(())
    }

    async fn store(&self, changed: &[&Definition], before: &Known, actor: &str) -> Result<(), ConductorError> {
        let at = self.now();
        let mut tx = self.begin().await?;
        for definition in changed {
            sqlx::query(
                "INSERT INTO conductor_definitions (kind, name, body, version, applied_at) VALUES ($1, $2, $3, 1, $4)
                 ON CONFLICT (kind, name) DO UPDATE
                 SET body = excluded.body, version = conductor_definitions.version + 1, applied_at = excluded.applied_at",
            )
            .bind(definition.kind())
            .bind(definition.name().to_owned())
            .bind(to_json(definition))
            .bind(at.micros())
            .execute(tx.conn())
            .await
            .during("store a definition")?;
            let event = NewEvent {
                at,
                kind: EventKind::DefinitionApplied,
                subject: format!("{}/{}", definition.kind().to_lowercase(), definition.name()),
                actor: actor.to_owned(),
                cause: None,
                body: serde_json::json!({
                    "kind": definition.kind(), "name": definition.name(), "action": own_action(definition, before),
                }),
            };
            append(&mut tx, event).await?;
        }
        commit(tx).await
    }
}

fn feature_problem(error: &impl Coded) -> Problem {
    let hint = error.hint();
    let message = if hint.is_empty() { error.to_string() } else { format!("{error}: {hint}") };
    Problem { kind: "Definition", name: String::new(), field: String::new(), message }
}

/// What happens to a definition the conductor keeps itself.
fn own_action(definition: &Definition, before: &Known) -> Action {
    let same = match definition {
        Definition::Pipeline(d) => before.pipelines.get(&d.name).map(|old| old == d),
        Definition::Endpoint(d) => before.endpoints.get(&d.name).map(|old| old == d),
        Definition::Entity(_) | Definition::Source(_) | Definition::FeatureView(_) | Definition::FeatureService(_) => {
            Some(true)
        }
    };
    match same {
        None => Action::Created,
        Some(false) => Action::Updated,
        Some(true) => Action::Unchanged,
    }
}

/// The changes in the order of the batch.
fn merge(definitions: &[Definition], mut planned: Vec<Change>, before: &Known) -> Vec<Change> {
    definitions
        .iter()
        .map(|definition| {
            let of_features = planned.iter().position(|c| c.kind == definition.kind() && c.name == definition.name());
            of_features.map(|at| planned.swap_remove(at)).unwrap_or_else(|| Change {
                kind: definition.kind().to_owned(),
                name: definition.name().to_owned(),
                action: own_action(definition, before),
                detail: String::new(),
            })
        })
        .collect()
}

/// The conductor's own definitions that change.
fn own_changes<'a>(definitions: &'a [Definition], changes: &[Change]) -> Vec<&'a Definition> {
    let own = |d: &Definition| matches!(d, Definition::Pipeline(_) | Definition::Endpoint(_));
    let pairs = definitions.iter().zip(changes);
    pairs.filter(|(d, c)| own(d) && c.action != Action::Unchanged).map(|(d, _)| d).collect()
}
