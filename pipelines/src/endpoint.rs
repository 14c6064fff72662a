//! Endpoints: which versions answer, kept here because serving forgets.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    Coded as _, EndpointName, EventKind, ModelRef, NewEvent, Timestamp, definition::Endpoint, ports::Models as _,
};
use evaluator::Watch;
use registry::{AliasMove, RegistryError};
use serde::{Deserialize, Serialize};
use serving::{EndpointState, PredictRequest, PredictResponse, ServingError, Target};
use sqlx::Row as _;

use crate::{
    conductor::{Conductor, append, commit},
    error::{Asking as _, ConductorError, During as _, stored, to_json},
};

/// The alias that names the version in charge.
pub const CHAMPION: &str = "champion";

/// File of a version that says what its training data looked like.
const REFERENCE: &str = "reference.json";

/// How an endpoint's traffic is to be split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Versions that answer; whole percents that add up to 100.
    pub targets: Vec<Target>,
    /// Versions that score every logged request beside the answer, for comparison. One that is a target too does so
    /// whenever it is not: name the first version here and it is compared with all its successors.
    #[serde(default)]
    pub shadow: Vec<u32>,
}

/// An endpoint as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointView {
    pub definition: Endpoint,
    /// Empty until a version is deployed.
    pub targets: Vec<Target>,
    /// As asked for in the deployment.
    pub shadow: Vec<u32>,
    /// Version in charge: the one at 100 %, or the one a challenger is tried against.
    pub champion: Option<u32>,
    /// The first version that was ever in charge.
    pub first_version: Option<u32>,
    /// Counts the changes of the split, from 1; 0 before the first.
    pub revision: u64,
    pub changed_at: Option<Timestamp>,
    /// Whether it answers predictions now.
    pub in_service: bool,
}

/// The row of an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deployed {
    pub(crate) targets: Vec<Target>,
    pub(crate) shadow: Vec<u32>,
    pub(crate) champion: u32,
    first_version: u32,
    revision: u64,
    changed_at: Timestamp,
}

impl Deployed {
    fn state(&self, definition: &Endpoint) -> EndpointState {
        EndpointState { definition: definition.clone(), targets: self.targets.clone(), shadow: self.shadow.clone() }
    }

    pub(crate) fn versions(&self) -> BTreeSet<u32> {
        self.targets.iter().map(|t| t.version).chain(self.shadow.iter().copied()).collect()
    }
}

/// Who changes a split, and why.
pub(crate) struct Order<'a> {
    pub(crate) actor: &'a str,
    pub(crate) reason: &'a str,
    /// Event that led to it.
    pub(crate) cause: Option<u64>,
}

impl Conductor {
    /// Splits an endpoint's traffic. Versions are loaded and tried before anything is written; when writing fails the
    /// endpoint goes back to what it was. A single version at 100 % becomes the model's `champion`; where that alias is
    /// protected, it has to be approved first. Deploying what is deployed already changes nothing.
    ///
    /// # Errors
    /// A version that would have to be approved, an endpoint or version that does not exist, percents that do not add up to 100, or a version that does not
    /// load or fit the endpoint's feature service.
    pub async fn deploy(
        &self,
        endpoint: &EndpointName,
        deployment: Deployment,
        actor: &str,
        reason: &str,
    ) -> Result<EndpointView, ConductorError> {
        self.deploy_by(endpoint, deployment, &Order { actor, reason, cause: None }).await?;
        self.endpoint(endpoint).await
    }

    /// The endpoint as it stands.
    ///
    /// # Errors
    /// `NoSuchEndpoint`.
    pub async fn endpoint(&self, name: &EndpointName) -> Result<EndpointView, ConductorError> {
        let definition = self.definition(name)?;
        self.view(definition).await
    }

    /// All endpoints, by name.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub async fn endpoints(&self) -> Result<Vec<EndpointView>, ConductorError> {
        let definitions: Vec<_> = self.known(|known| known.endpoints.values().cloned().collect());
        let mut views = Vec::with_capacity(definitions.len());
        for definition in definitions {
            views.push(self.view(definition).await?);
        }
        Ok(views)
    }

    /// Answers a prediction; like serving's own, but tells an endpoint without a version from one that does not exist.
    ///
    /// # Errors
    /// `NothingDeployed`, `NoSuchEndpoint`, or what serving answers.
    pub async fn predict(
        &self,
        endpoint: &EndpointName,
        request: PredictRequest,
    ) -> Result<PredictResponse, ConductorError> {
        match self.rooms().serving.predict(endpoint, request).await {
            Err(ServingError::NoSuchEndpoint { .. }) => {
                self.definition(endpoint)?;
                Err(ConductorError::NothingDeployed(endpoint.clone()))
            }
            answer => answer.map_err(ConductorError::Serving),
        }
    }

    async fn view(&self, definition: Endpoint) -> Result<EndpointView, ConductorError> {
        let deployed = self.deployed(&definition.name).await?;
        let in_service = self.rooms().serving.endpoints().iter().any(|status| status.name == definition.name);
        Ok(match deployed {
            Some(deployed) => EndpointView {
                definition,
                champion: Some(deployed.champion),
                first_version: Some(deployed.first_version),
                revision: deployed.revision,
                changed_at: Some(deployed.changed_at),
                targets: deployed.targets,
                shadow: deployed.shadow,
                in_service,
            },
            None => EndpointView {
                definition,
                targets: Vec::new(),
                shadow: Vec::new(),
                champion: None,
                first_version: None,
                revision: 0,
                changed_at: None,
                in_service,
            },
        })
    }

    pub(crate) async fn deploy_by(
        &self,
        name: &EndpointName,
        deployment: Deployment,
        order: &Order<'_>,
    ) -> Result<(), ConductorError> {
        let _alone = self.0.changing.lock().await;
        let definition = self.definition(name)?;
        check_split(&definition, &deployment)?;
        let before = self.deployed(name).await?;
        let champion = champion_of(&deployment.targets, before.as_ref().map(|b| b.champion));
        let after = Deployed {
            champion,
            first_version: before.as_ref().map_or(champion, |b| b.first_version),
            revision: before.as_ref().map_or(0, |b| b.revision) + 1,
            changed_at: self.now(),
            targets: deployment.targets,
            shadow: deployment.shadow,
        };
        let same = before.as_ref().is_some_and(|b| b.targets == after.targets && b.shadow == after.shadow);
        let newly = sole(&after.targets).filter(|version| before.as_ref().map(|b| b.champion) != Some(*version));
        if let Some(version) = newly {
            self.rooms().registry.may_move(&definition.model, CHAMPION, version).await.asking("deploy")?;
        }
        if !same {
            for version in after.versions() {
                let version = ModelRef { model: definition.model.clone(), version };
                self.rooms().registry.version(&version).await.asking("deploy")?;
            }
            self.rooms().serving.configure(after.state(&definition)).await.asking("deploy")?;
            if let Err(error) = self.write_endpoint(&definition, &after, order).await {
                let back = match &before {
                    Some(before) => self.rooms().serving.configure(before.state(&definition)).await,
                    None => self.rooms().serving.remove(name).await,
                };
                if let Err(e) = back {
                    tracing::error!(endpoint = %name, error = %e, "could not put the endpoint back");
                }
                return Err(error);
            }
        }
        self.name_champion(&definition, &after, order).await?;
        self.watch_endpoint(name).await
    }

    async fn write_endpoint(
        &self,
        definition: &Endpoint,
        after: &Deployed,
        order: &Order<'_>,
    ) -> Result<(), ConductorError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO conductor_endpoints (name, targets, shadow, champion, first_version, revision, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (name) DO UPDATE SET targets = excluded.targets, shadow = excluded.shadow,
             champion = excluded.champion, revision = excluded.revision, changed_at = excluded.changed_at",
        )
        .bind(definition.name.as_str().to_owned())
        .bind(to_json(&after.targets))
        .bind(to_json(&after.shadow))
        .bind(i64::from(after.champion))
        .bind(i64::from(after.first_version))
        .bind(crate::store::signed(after.revision))
        .bind(after.changed_at.micros())
        .execute(tx.conn())
        .await
        .during("store an endpoint")?;
        let event = NewEvent {
            at: after.changed_at,
            kind: EventKind::EndpointChanged,
            subject: format!("endpoint/{}", definition.name),
            actor: order.actor.to_owned(),
            cause: order.cause,
            body: serde_json::json!({
                "endpoint": definition.name, "model": definition.model, "targets": after.targets,
                "shadow": after.shadow, "champion": after.champion, "reason": order.reason,
            }),
        };
        append(&mut tx, event).await?;
        commit(tx).await
    }

    /// Moves the alias to a version that has all the traffic, where it does not stand there already. A protected alias
    /// stays where it is: whoever newly takes over was held to it before.
    async fn name_champion(
        &self,
        definition: &Endpoint,
        deployed: &Deployed,
        order: &Order<'_>,
    ) -> Result<(), ConductorError> {
        let Some(version) = sole(&deployed.targets) else { return Ok(()) };
        let registry = &self.rooms().registry;
        if registry.resolve(&definition.model, CHAMPION).await.is_ok_and(|at| at.version == version) {
            return Ok(());
        }
        let wanted = AliasMove {
            model: definition.model.clone(),
            alias: CHAMPION.to_owned(),
            version,
            actor: order.actor.to_owned(),
            reason: order.reason.to_owned(),
            cause: order.cause,
        };
        match registry.move_alias(wanted).await {
            Err(RegistryError::Protected { .. }) => Ok(()),
            moved => moved.map(drop).asking("name the champion"),
        }
    }

    /// Tells the evaluator which version is in charge and what its training data looked like.
    pub(crate) async fn watch_endpoint(&self, name: &EndpointName) -> Result<(), ConductorError> {
        let definition = self.definition(name)?;
        let Some(deployed) = self.deployed(name).await? else { return Ok(()) };
        // Only the version in charge is judged, so only its reference is needed.
        let at = ModelRef { model: definition.model.clone(), version: deployed.champion };
        let opened = self.rooms().registry.open(&at).await.asking("open a version")?;
        let mut references = BTreeMap::new();
        if let Some(file) = opened.files.get(REFERENCE) {
            let reference = serde_json::from_slice(file).map_err(|e| ConductorError::Corrupt {
                what: "reference of a version",
                reason: format!("{at}: {e}"),
            })?;
            references.insert(deployed.champion, reference);
        }
        let watch = Watch { definition, references, champion: deployed.champion };
        self.rooms().evaluator.configure(watch).await.asking("watch the endpoint")
    }

    /// Puts an endpoint in service with a changed definition; one without versions needs nothing.
    pub(crate) async fn reshape(&self, definition: &Endpoint) -> Result<(), ConductorError> {
        let Some(deployed) = self.deployed(&definition.name).await? else { return Ok(()) };
        let before = self.definition(&definition.name)?;
        if before.model != definition.model {
            let problem =
                format!("it serves versions of model `{}`: give the other model its own endpoint", before.model);
            return Err(ConductorError::BadDeployment { endpoint: definition.name.clone(), problem });
        }
        self.rooms().serving.configure(deployed.state(definition)).await.asking("change the endpoint")
    }

    /// After a start: every endpoint serves what it served before.
    pub(crate) async fn restore_endpoints(&self) -> Result<(), ConductorError> {
        let definitions: Vec<_> = self.known(|known| known.endpoints.values().cloned().collect());
        for definition in definitions {
            let Some(deployed) = self.deployed(&definition.name).await? else { continue };
            let order = Order { actor: crate::conductor::ACTOR, reason: "deployed before the restart", cause: None };
            let restored = async {
                self.rooms().serving.configure(deployed.state(&definition)).await.asking("restore an endpoint")?;
                self.name_champion(&definition, &deployed, &order).await?;
                self.watch_endpoint(&definition.name).await
            };
            if let Err(error) = restored.await {
                tracing::error!(endpoint = %definition.name, %error, hint = error.hint(), "endpoint not restored");
            }
        }
        Ok(())
    }

    pub(crate) async fn deployed(&self, name: &EndpointName) -> Result<Option<Deployed>, ConductorError> {
        const DOING: &str = "read an endpoint";
        let row = sqlx::query("SELECT * FROM conductor_endpoints WHERE name = $1")
            .bind(name.as_str().to_owned())
            .fetch_optional(self.rooms().meta.reader())
            .await
            .during(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<_, sqlx::Error> {
            let json: [String; 2] = [row.try_get("targets")?, row.try_get("shadow")?];
            let numbers: [i64; 4] = [
                row.try_get("champion")?,
                row.try_get("first_version")?,
                row.try_get("revision")?,
                row.try_get("changed_at")?,
            ];
            Ok((json, numbers))
        };
        let ([targets, shadow], [champion, first, revision, changed]) = read().during(DOING)?;
        let version =
            |n: i64| u32::try_from(n).map_err(|e| ConductorError::Corrupt { what: "version", reason: e.to_string() });
        Ok(Some(Deployed {
            targets: stored("targets", &targets)?,
            shadow: stored("shadow versions", &shadow)?,
            champion: version(champion)?,
            first_version: version(first)?,
            revision: revision.unsigned_abs(),
            changed_at: Timestamp::from_micros(changed),
        }))
    }
}

fn check_split(definition: &Endpoint, deployment: &Deployment) -> Result<(), ConductorError> {
    let bad = |problem: String| ConductorError::BadDeployment { endpoint: definition.name.clone(), problem };
    let sum: u64 = deployment.targets.iter().map(|t| u64::from(t.percent)).sum();
    if sum != 100 {
        return Err(bad(format!("the percents of the targets add up to {sum}, not to 100")));
    }
    for list in [deployment.targets.iter().map(|t| t.version).collect(), deployment.shadow.clone()] {
        let mut seen = BTreeSet::new();
        if let Some(twice) = list.into_iter().find(|version: &u32| !seen.insert(*version)) {
            return Err(bad(format!("version {twice} stands twice")));
        }
    }
    Ok(())
}

/// The version that has all the traffic.
fn sole(targets: &[Target]) -> Option<u32> {
    match targets {
        [Target { version, percent: 100 }] => Some(*version),
        _ => None,
    }
}

/// The version in charge: the one before if it still answers, else the one with the largest share.
fn champion_of(targets: &[Target], before: Option<u32>) -> u32 {
    let answers = |version: &u32| targets.iter().any(|t| t.version == *version && t.percent > 0);
    let largest = || targets.iter().max_by_key(|t| t.percent).map_or(0, |t| t.version);
    before.filter(answers).unwrap_or_else(largest)
}
