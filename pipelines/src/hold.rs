//! Where the champion's alias is protected, a version takes over only once people approved.

use domain::{
    Coded as _, ErrorCode, Event, EventKind, NewEvent,
    state::{PipelineRunEvent, PipelineRunState},
};
use registry::{Approval, Ask, RegistryError};
use serde_json::json;
use serving::Target;

use crate::{
    conductor::{ACTOR, Conductor},
    endpoint::{CHAMPION, Deployment, Order},
    error::{Asking as _, ConductorError, During as _},
    run::PipelineRun,
    store,
};

impl Conductor {
    /// Asks for the version to become the champion where that needs approval; `None` where it does not, or was
    /// approved already. While the same is asked, nothing is asked anew.
    pub(crate) async fn ask_if_protected(
        &self,
        run: &PipelineRun,
        version: u32,
        reason: &str,
    ) -> Result<Option<Approval>, ConductorError> {
        let registry = &self.rooms().registry;
        match registry.may_move(&run.spec.model, CHAMPION, version).await {
            Ok(()) => return Ok(None),
            Err(RegistryError::Protected { .. }) => {}
            Err(error) => return Err(error).asking("look at the alias"),
        }
        let ask = Ask {
            model: run.spec.model.clone(),
            alias: CHAMPION.to_owned(),
            version,
            actor: ACTOR.to_owned(),
            reason: format!("pipeline run {}: {reason}", run.id),
            cause: Some(run.story),
        };
        registry.ask_approval(ask).await.asking("ask for approval").map(Some)
    }

    /// Ends a run whose version waits for approval.
    pub(crate) async fn hold(&self, run: PipelineRun, asked: &Approval) -> Result<(), ConductorError> {
        let told = self.held(&run, asked);
        self.finish(run.clone(), PipelineRunEvent::Hold, vec![told]).await?;
        // It may have been approved before the run was written as held.
        self.take_over(&run, run.story).await
    }

    fn held(&self, run: &PipelineRun, asked: &Approval) -> NewEvent {
        let body = json!({
            "run": run.id, "endpoint": run.endpoint, "challenger": asked.version, "champion": run.champion,
            "request": asked.id, "reason": waits(asked),
        });
        self.tell(run, EventKind::RolloutHeld, format!("model/{}/{}", run.spec.model, asked.version), body)
    }

    /// An alias moved by approval: a version that was held for it takes over.
    pub(crate) async fn on_alias_moved(&self, event: &Event) -> Result<bool, ConductorError> {
        let body = &event.body;
        let (Some(model), Some(version)) = (body["model"].as_str(), body["to"].as_u64()) else { return Ok(false) };
        if body["alias"] != CHAMPION {
            return Ok(false);
        }
        if !self.was_approved(event).await? {
            return Ok(false);
        }
        let version = u32::try_from(version).unwrap_or_default();
        let held = store::with_challenger(self.rooms().meta.reader(), PipelineRunState::Held, version).await?;
        // Of several that were held with the same version, one deploys it.
        let Some(run) = held.into_iter().find(|run| run.spec.model.as_str() == model) else { return Ok(false) };
        self.take_over(&run, event.seq).await?;
        Ok(true)
    }

    /// Whether an approval led to the event.
    async fn was_approved(&self, event: &Event) -> Result<bool, ConductorError> {
        let Some(cause) = event.cause else { return Ok(false) };
        let journal = self.rooms().meta.journal();
        let read = journal.read(cause.saturating_sub(1), 1).await.during("read the journal")?;
        Ok(read.first().is_some_and(|led| led.seq == cause && led.kind == EventKind::ApprovalApproved))
    }

    /// Gives a held version the traffic if the alias points at it. One that does not load stays out, and says so: an
    /// approval is no reason to stop following the journal.
    async fn take_over(&self, run: &PipelineRun, cause: u64) -> Result<(), ConductorError> {
        let Some(version) = run.challenger else { return Ok(()) };
        if !self.rooms().registry.resolve(&run.spec.model, CHAMPION).await.is_ok_and(|at| at.version == version) {
            return Ok(());
        }
        let shadow = self.deployed(&run.endpoint).await?.map(|d| d.shadow).unwrap_or_default();
        let deployment = Deployment { targets: vec![Target { version, percent: 100 }], shadow };
        let order = Order { actor: ACTOR, reason: "it was approved as champion", cause: Some(cause) };
        match self.deploy_by(&run.endpoint, deployment, &order).await {
            Err(error) if !passing(error.code()) => {
                tracing::error!(endpoint = %run.endpoint, version, %error, hint = error.hint(), "approved version not deployed");
                Ok(())
            }
            done => done,
        }
    }
}

/// Why a run is held, in words.
pub(crate) fn waits(asked: &Approval) -> String {
    format!(
        "alias `{}` is protected: request {} waits for {} approval{}",
        asked.alias,
        asked.id,
        asked.needed,
        if asked.needed == 1 { "" } else { "s" }
    )
}

/// Whether the same may go well when it is tried again.
const fn passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::Overloaded | ErrorCode::DeadlineExceeded)
}
