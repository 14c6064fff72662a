//! The loop as it stands, for the console's front page.

use domain::{EndpointName, Event, Timestamp};
use evaluator::{Alert, AlertFilter, Bucket, QualityQuery, QualityRow, Status};
use serde::Serialize;

use crate::{
    conductor::Conductor,
    endpoint::EndpointView,
    error::{Asking as _, ConductorError, During as _},
    run::{PipelineRun, RunFilter},
};

const RUNS: usize = 50;
const ALERTS: usize = 50;
const EVENTS: usize = 50;

/// Everything the front page shows.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    pub endpoints: Vec<EndpointOverview>,
    /// Newest first.
    pub runs: Vec<PipelineRun>,
    /// Newest first.
    pub events: Vec<Event>,
}

/// An endpoint and how it fares.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointOverview {
    #[serde(flatten)]
    pub endpoint: EndpointView,
    /// Absent before the first version was deployed.
    pub status: Option<Status>,
    /// By week: the answers given (`served`), then each of champion and first version over all it scored.
    pub quality: Vec<QualityRow>,
    /// By report, oldest first.
    pub drift: Vec<DriftPoint>,
    /// Newest first.
    pub alerts: Vec<Alert>,
}

/// Drift of the champion's inputs in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftPoint {
    pub window_end: Timestamp,
    pub champion: u32,
    /// Mean PSI of the inputs weighted by their importance.
    pub weighted_psi: Option<f64>,
    pub rows: u64,
    /// Rules that fired in this window, alert or not.
    pub fired: Vec<&'static str>,
}

impl Conductor {
    /// What the console shows, read anew.
    ///
    /// # Errors
    /// A room that cannot be read.
    pub async fn overview(&self) -> Result<Overview, ConductorError> {
        let mut endpoints = Vec::new();
        for endpoint in self.endpoints().await? {
            endpoints.push(self.endpoint_overview(endpoint).await?);
        }
        Ok(Overview {
            endpoints,
            runs: self.runs(&RunFilter { pipeline: None, limit: RUNS }).await?,
            events: self.rooms().meta.journal().recent(EVENTS).await.during("read the journal")?,
        })
    }

    async fn endpoint_overview(&self, endpoint: EndpointView) -> Result<EndpointOverview, ConductorError> {
        let name = endpoint.definition.name.clone();
        let evaluator = &self.rooms().evaluator;
        if !evaluator.endpoints().contains(&name) {
            return Ok(EndpointOverview {
                endpoint,
                status: None,
                quality: Vec::new(),
                drift: Vec::new(),
                alerts: Vec::new(),
            });
        }
        let shown = [endpoint.champion, endpoint.first_version].map(|version| version.map(|v| v.to_string()));
        let query = QualityQuery { bucket: Bucket::Week, ..QualityQuery::default() };
        let mut quality = evaluator.quality(&name, query).await.asking("read quality")?;
        quality.retain(|row| row.version == "served" || shown.iter().flatten().any(|v| *v == row.version));
        let filter = AlertFilter { endpoint: Some(name.clone()), state: None, limit: ALERTS };
        Ok(EndpointOverview {
            status: Some(evaluator.status(&name).await.asking("read the evaluator's status")?),
            quality,
            drift: self.drift(&name).await?,
            alerts: evaluator.alerts(filter).await.asking("list alerts")?,
            endpoint,
        })
    }

    async fn drift(&self, name: &EndpointName) -> Result<Vec<DriftPoint>, ConductorError> {
        let reports = self.rooms().evaluator.reports(name, None, None).await.asking("read drift reports")?;
        Ok(reports
            .into_iter()
            .map(|report| DriftPoint {
                window_end: report.window_end,
                champion: report.champion,
                weighted_psi: report.weighted_psi,
                rows: report.rows,
                fired: report.fired.iter().map(|rule| rule.as_str()).collect(),
            })
            .collect())
    }
}
