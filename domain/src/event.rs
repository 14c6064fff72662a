//! Events of the journal: every change of state, in order, each naming what caused it.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// What happened. Kinds are `noun.verb-in-the-past`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    #[serde(rename = "definition.applied")]
    DefinitionApplied,
    #[serde(rename = "run.started")]
    RunStarted,
    #[serde(rename = "run.finished")]
    RunFinished,
    #[serde(rename = "experiment.created")]
    ExperimentCreated,
    #[serde(rename = "experiment.changed")]
    ExperimentChanged,
    #[serde(rename = "experiment.purged")]
    ExperimentPurged,
    #[serde(rename = "run.changed")]
    RunChanged,
    #[serde(rename = "run.purged")]
    RunPurged,
    #[serde(rename = "model.created")]
    ModelCreated,
    #[serde(rename = "model.changed")]
    ModelChanged,
    #[serde(rename = "model.deleted")]
    ModelDeleted,
    #[serde(rename = "version.changed")]
    VersionChanged,
    #[serde(rename = "version.deleted")]
    VersionDeleted,
    #[serde(rename = "version.damaged")]
    VersionDamaged,
    #[serde(rename = "alias.removed")]
    AliasRemoved,
    #[serde(rename = "logged_model.created")]
    LoggedModelCreated,
    #[serde(rename = "logged_model.changed")]
    LoggedModelChanged,
    #[serde(rename = "logged_model.purged")]
    LoggedModelPurged,
    #[serde(rename = "blobs.collected")]
    BlobsCollected,
    #[serde(rename = "source.compacted")]
    SourceCompacted,
    #[serde(rename = "source.vacuumed")]
    SourceVacuumed,
    #[serde(rename = "source.drifted")]
    SourceDrifted,
    #[serde(rename = "quarantine.replayed")]
    QuarantineReplayed,
    #[serde(rename = "quarantine.discarded")]
    QuarantineDiscarded,
    #[serde(rename = "load.asked")]
    LoadAsked,
    #[serde(rename = "load.finished")]
    LoadFinished,
    #[serde(rename = "stream.paused")]
    StreamPaused,
    #[serde(rename = "stream.resumed")]
    StreamResumed,
    #[serde(rename = "features.inconsistent")]
    FeaturesInconsistent,
    #[serde(rename = "dataset.built")]
    DatasetBuilt,
    #[serde(rename = "version.registered")]
    VersionRegistered,
    #[serde(rename = "alias.moved")]
    AliasMoved,
    #[serde(rename = "endpoint.changed")]
    EndpointChanged,
    #[serde(rename = "alert.raised")]
    AlertRaised,
    #[serde(rename = "alert.cleared")]
    AlertCleared,
    #[serde(rename = "pipeline.triggered")]
    PipelineTriggered,
    #[serde(rename = "pipeline.skipped")]
    PipelineSkipped,
    #[serde(rename = "step.finished")]
    StepFinished,
    #[serde(rename = "gate.decided")]
    GateDecided,
    #[serde(rename = "rollout.promoted")]
    RolloutPromoted,
    #[serde(rename = "rollout.rolled_back")]
    RolloutRolledBack,
    #[serde(rename = "pipeline.finished")]
    PipelineFinished,
    #[serde(rename = "review.answered")]
    ReviewAnswered,
    #[serde(rename = "project.created")]
    ProjectCreated,
    #[serde(rename = "token.created")]
    TokenCreated,
    #[serde(rename = "token.rotated")]
    TokenRotated,
    #[serde(rename = "token.revoked")]
    TokenRevoked,
    /// Attempts that were refused: the first at once, more of the same kind counted and told of every minute.
    #[serde(rename = "access.refused")]
    AccessRefused,
    #[serde(rename = "alias.protected")]
    AliasProtected,
    #[serde(rename = "alias.unprotected")]
    AliasUnprotected,
    #[serde(rename = "approval.asked")]
    ApprovalAsked,
    #[serde(rename = "approval.given")]
    ApprovalGiven,
    #[serde(rename = "approval.approved")]
    ApprovalApproved,
    #[serde(rename = "approval.rejected")]
    ApprovalRejected,
    #[serde(rename = "approval.withdrawn")]
    ApprovalWithdrawn,
    #[serde(rename = "approval.superseded")]
    ApprovalSuperseded,
    #[serde(rename = "rollout.held")]
    RolloutHeld,
    #[serde(rename = "webhook.created")]
    WebhookCreated,
    #[serde(rename = "webhook.changed")]
    WebhookChanged,
    #[serde(rename = "webhook.deleted")]
    WebhookDeleted,
    #[serde(rename = "webhook.gave_up")]
    WebhookGaveUp,
}

impl EventKind {
    /// The kind as it stands in the journal and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DefinitionApplied => "definition.applied",
            Self::RunStarted => "run.started",
            Self::RunFinished => "run.finished",
            Self::ExperimentCreated => "experiment.created",
            Self::ExperimentChanged => "experiment.changed",
            Self::ExperimentPurged => "experiment.purged",
            Self::RunChanged => "run.changed",
            Self::RunPurged => "run.purged",
            Self::ModelCreated => "model.created",
            Self::ModelChanged => "model.changed",
            Self::ModelDeleted => "model.deleted",
            Self::VersionChanged => "version.changed",
            Self::VersionDeleted => "version.deleted",
            Self::VersionDamaged => "version.damaged",
            Self::AliasRemoved => "alias.removed",
            Self::LoggedModelCreated => "logged_model.created",
            Self::LoggedModelChanged => "logged_model.changed",
            Self::LoggedModelPurged => "logged_model.purged",
            Self::BlobsCollected => "blobs.collected",
            Self::SourceCompacted => "source.compacted",
            Self::SourceVacuumed => "source.vacuumed",
            Self::SourceDrifted => "source.drifted",
            Self::QuarantineReplayed => "quarantine.replayed",
            Self::QuarantineDiscarded => "quarantine.discarded",
            Self::LoadAsked => "load.asked",
            Self::LoadFinished => "load.finished",
            Self::StreamPaused => "stream.paused",
            Self::StreamResumed => "stream.resumed",
            Self::FeaturesInconsistent => "features.inconsistent",
            Self::DatasetBuilt => "dataset.built",
            Self::VersionRegistered => "version.registered",
            Self::AliasMoved => "alias.moved",
            Self::EndpointChanged => "endpoint.changed",
            Self::AlertRaised => "alert.raised",
            Self::AlertCleared => "alert.cleared",
            Self::PipelineTriggered => "pipeline.triggered",
            Self::PipelineSkipped => "pipeline.skipped",
            Self::StepFinished => "step.finished",
            Self::GateDecided => "gate.decided",
            Self::RolloutPromoted => "rollout.promoted",
            Self::RolloutRolledBack => "rollout.rolled_back",
            Self::PipelineFinished => "pipeline.finished",
            Self::ReviewAnswered => "review.answered",
            Self::ProjectCreated => "project.created",
            Self::TokenCreated => "token.created",
            Self::TokenRotated => "token.rotated",
            Self::TokenRevoked => "token.revoked",
            Self::AccessRefused => "access.refused",
            Self::AliasProtected => "alias.protected",
            Self::AliasUnprotected => "alias.unprotected",
            Self::ApprovalAsked => "approval.asked",
            Self::ApprovalGiven => "approval.given",
            Self::ApprovalApproved => "approval.approved",
            Self::ApprovalRejected => "approval.rejected",
            Self::ApprovalWithdrawn => "approval.withdrawn",
            Self::ApprovalSuperseded => "approval.superseded",
            Self::RolloutHeld => "rollout.held",
            Self::WebhookCreated => "webhook.created",
            Self::WebhookChanged => "webhook.changed",
            Self::WebhookDeleted => "webhook.deleted",
            Self::WebhookGaveUp => "webhook.gave_up",
        }
    }
}

/// An event about to be appended, in the transaction of the change it tells of.
#[derive(Debug, Clone)]
pub struct NewEvent {
    pub at: Timestamp,
    pub kind: EventKind,
    /// What it is about: `model/flight-delay/3`, `endpoint/flight-delay`, `alert/<id>`.
    pub subject: String,
    /// Who did it: `cli`, `pipelines`, `evaluator`. Where a caller with a token stands behind it, the journal names
    /// that caller instead.
    pub actor: String,
    /// Sequence number of the event that led to this one.
    pub cause: Option<u64>,
    pub body: serde_json::Value,
}

/// An event as the journal holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the journal, from 1, without gaps.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: EventKind,
    pub subject: String,
    pub actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<u64>,
    /// The request within which it happened, as `x-request-id` names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    pub body: serde_json::Value,
}
