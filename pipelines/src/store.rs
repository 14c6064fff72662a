//! Runs and steps as rows.

use domain::{
    Digest, PipelineName, PipelineRunId, Timestamp,
    state::{PipelineRunState, StepState},
};
use sqlx::Row as _;
use storage::sql::{Conn, Pool, Row};

use crate::{
    error::{ConductorError, During as _, stored, to_json},
    run::{PipelineRun, RunFilter, Step, step_names},
};

type Result<T> = std::result::Result<T, ConductorError>;

fn corrupt(what: &'static str, reason: impl ToString) -> ConductorError {
    ConductorError::Corrupt { what, reason: reason.to_string() }
}

/// SQLite's integers are signed; counts and sequence numbers never come near the limit.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn version(n: Option<i64>) -> Result<Option<u32>> {
    n.map(|n| u32::try_from(n).map_err(|e| corrupt("version", e))).transpose()
}

fn instant(n: i64) -> Timestamp {
    Timestamp::from_micros(n)
}

/// A run's row; steps are read apart.
fn run_row(row: &Row) -> Result<PipelineRun> {
    let read = || -> std::result::Result<_, sqlx::Error> {
        let texts: [String; 6] = [
            row.try_get("id")?,
            row.try_get("pipeline")?,
            row.try_get("endpoint")?,
            row.try_get("state")?,
            row.try_get("spec")?,
            row.try_get("cause")?,
        ];
        let numbers: [i64; 5] = [
            row.try_get("story")?,
            row.try_get("cutoff")?,
            row.try_get("labelled")?,
            row.try_get("created")?,
            row.try_get("updated")?,
        ];
        let perhaps: [Option<i64>; 3] = [row.try_get("champion")?, row.try_get("challenger")?, row.try_get("ended")?];
        let json: [Option<String>; 3] = [row.try_get("decision")?, row.try_get("rollout")?, row.try_get("error")?];
        Ok((texts, numbers, perhaps, json))
    };
    let (texts, numbers, [champion, challenger, ended], [decision, rollout, error]) =
        read().during("read a pipeline run")?;
    let [id, pipeline, endpoint, state, spec, cause] = texts;
    let [story, cutoff, labelled, created, updated] = numbers;
    Ok(PipelineRun {
        id: id.parse().map_err(|e| corrupt("run id", e))?,
        pipeline: pipeline.parse().map_err(|e| corrupt("pipeline name", e))?,
        endpoint: endpoint.parse().map_err(|e| corrupt("endpoint name", e))?,
        state: PipelineRunState::parse(&state).ok_or_else(|| corrupt("run state", &state))?,
        cause: stored("cause", &cause)?,
        story: story.unsigned_abs(),
        cutoff: instant(cutoff),
        created: instant(created),
        updated: instant(updated),
        champion: version(champion)?,
        challenger: version(challenger)?,
        decision: decision.map(|json| stored("decision", &json)).transpose()?,
        rollout: rollout.map(|json| stored("rollout", &json)).transpose()?,
        error,
        ended: ended.map(instant),
        steps: Vec::new(),
        spec: stored("pipeline", &spec)?,
        labelled: labelled.unsigned_abs(),
    })
}

fn step_row(row: &Row) -> Result<Step> {
    let read = || -> std::result::Result<_, sqlx::Error> {
        let name: String = row.try_get("name")?;
        let state: String = row.try_get("state")?;
        let texts: [Option<String>; 4] =
            [row.try_get("step_key")?, row.try_get("why")?, row.try_get("result")?, row.try_get("error")?];
        let times: [Option<i64>; 2] = [row.try_get("started")?, row.try_get("finished")?];
        Ok((name, state, texts, times))
    };
    let (name, state, [key, why, result, error], [started, finished]) = read().during("read a pipeline step")?;
    Ok(Step {
        name,
        state: StepState::parse(&state).ok_or_else(|| corrupt("step state", &state))?,
        key: key.map(|key| key.parse().map_err(|e| corrupt("step key", e))).transpose()?,
        why,
        result: result.map(|json| stored("step result", &json)).transpose()?,
        started: started.map(instant),
        finished: finished.map(instant),
        error,
    })
}

/// Adds a run and its waiting steps.
pub(crate) async fn insert_run(conn: &mut Conn, run: &PipelineRun) -> Result<()> {
    const DOING: &str = "store a pipeline run";
    sqlx::query(
        "INSERT INTO pipeline_runs (id, pipeline, endpoint, state, spec, cause, story, cutoff, labelled, created, updated)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(run.id.to_string())
    .bind(run.pipeline.as_str())
    .bind(run.endpoint.as_str())
    .bind(run.state.as_str())
    .bind(to_json(&run.spec))
    .bind(to_json(&run.cause))
    .bind(signed(run.story))
    .bind(run.cutoff.micros())
    .bind(signed(run.labelled))
    .bind(run.created.micros())
    .bind(run.updated.micros())
    .execute(&mut *conn)
    .await
    .during(DOING)?;
    for (position, name) in step_names(&run.spec).into_iter().enumerate() {
        sqlx::query("INSERT INTO pipeline_steps (run, position, name, state) VALUES ($1, $2, $3, $4)")
            .bind(run.id.to_string())
            .bind(signed(position as u64))
            .bind(name)
            .bind(StepState::Waiting.as_str())
            .execute(&mut *conn)
            .await
            .during(DOING)?;
    }
    Ok(())
}

/// Writes what may change in a run.
pub(crate) async fn update_run(conn: &mut Conn, run: &PipelineRun) -> Result<()> {
    sqlx::query(
        "UPDATE pipeline_runs SET state = $2, updated = $3, champion = $4, challenger = $5, decision = $6,
         rollout = $7, error = $8, ended = $9 WHERE id = $1",
    )
    .bind(run.id.to_string())
    .bind(run.state.as_str())
    .bind(run.updated.micros())
    .bind(run.champion.map(i64::from))
    .bind(run.challenger.map(i64::from))
    .bind(run.decision.as_ref().map(to_json))
    .bind(run.rollout.as_ref().map(to_json))
    .bind(run.error.clone())
    .bind(run.ended.map(Timestamp::micros))
    .execute(conn)
    .await
    .during("store a pipeline run")?;
    Ok(())
}

/// Writes what may change in a step.
pub(crate) async fn update_step(conn: &mut Conn, run: PipelineRunId, step: &Step) -> Result<()> {
    sqlx::query(
        "UPDATE pipeline_steps SET state = $3, step_key = $4, why = $5, result = $6, started = $7, finished = $8,
         error = $9 WHERE run = $1 AND name = $2",
    )
    .bind(run.to_string())
    .bind(step.name.clone())
    .bind(step.state.as_str())
    .bind(step.key.map(|key| key.to_string()))
    .bind(step.why.clone())
    .bind(step.result.as_ref().map(to_json))
    .bind(step.started.map(Timestamp::micros))
    .bind(step.finished.map(Timestamp::micros))
    .bind(step.error.clone())
    .execute(conn)
    .await
    .during("store a pipeline step")?;
    Ok(())
}

/// Remembers a step's result for later runs; the first result of a key stays.
pub(crate) async fn commit_result(conn: &mut Conn, run: PipelineRunId, step: &Step, at: Timestamp) -> Result<()> {
    let (Some(key), Some(result)) = (step.key, &step.result) else { return Ok(()) };
    sqlx::query(
        "INSERT INTO pipeline_results (step_key, run, name, result, committed_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (step_key) DO NOTHING",
    )
    .bind(key.to_string())
    .bind(run.to_string())
    .bind(step.name.clone())
    .bind(to_json(result))
    .bind(at.micros())
    .execute(conn)
    .await
    .during("store a step's result")?;
    Ok(())
}

/// The committed result of a key, and the run that made it.
pub(crate) async fn find_result(pool: &Pool, key: &Digest) -> Result<Option<(PipelineRunId, serde_json::Value)>> {
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT run, result FROM pipeline_results WHERE step_key = $1")
            .bind(key.to_string())
            .fetch_optional(pool)
            .await
            .during("look a step's result up")?;
    found
        .map(|(run, json)| Ok((run.parse().map_err(|e| corrupt("run id", e))?, stored("step result", &json)?)))
        .transpose()
}

/// Forgets a result whose files are gone.
pub(crate) async fn forget_result(conn: &mut Conn, key: &Digest) -> Result<()> {
    sqlx::query("DELETE FROM pipeline_results WHERE step_key = $1")
        .bind(key.to_string())
        .execute(conn)
        .await
        .during("forget a step's result")?;
    Ok(())
}

/// A run with its steps.
pub(crate) async fn run(pool: &Pool, id: PipelineRunId) -> Result<PipelineRun> {
    let row = sqlx::query("SELECT * FROM pipeline_runs WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(pool)
        .await
        .during("read a pipeline run")?;
    let mut run = run_row(&row.ok_or(ConductorError::NoSuchRun(id))?)?;
    run.steps = steps(pool, id).await?;
    Ok(run)
}

pub(crate) async fn steps(pool: &Pool, id: PipelineRunId) -> Result<Vec<Step>> {
    let rows = sqlx::query("SELECT * FROM pipeline_steps WHERE run = $1 ORDER BY position")
        .bind(id.to_string())
        .fetch_all(pool)
        .await
        .during("read pipeline steps")?;
    rows.iter().map(step_row).collect()
}

/// Runs, newest first, with their steps.
pub(crate) async fn runs(pool: &Pool, filter: &RunFilter) -> Result<Vec<PipelineRun>> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let rows = sqlx::query(
        "SELECT * FROM pipeline_runs WHERE ($1 IS NULL OR pipeline = $1) ORDER BY created DESC, id DESC LIMIT $2",
    )
    .bind(filter.pipeline.as_ref().map(|name| name.as_str().to_owned()))
    .bind(signed(limit as u64))
    .fetch_all(pool)
    .await
    .during("list pipeline runs")?;
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut run = run_row(row)?;
        run.steps = steps(pool, run.id).await?;
        runs.push(run);
    }
    Ok(runs)
}

/// Runs in any of `states`, oldest first, without their steps.
pub(crate) async fn in_states(pool: &Pool, states: [PipelineRunState; 2]) -> Result<Vec<PipelineRun>> {
    let rows = sqlx::query("SELECT * FROM pipeline_runs WHERE state IN ($1, $2) ORDER BY created, id")
        .bind(states[0].as_str())
        .bind(states[1].as_str())
        .fetch_all(pool)
        .await
        .during("list pipeline runs")?;
    rows.iter().map(run_row).collect()
}

/// Runs in a state whose new version has this number, newest first, without their steps.
pub(crate) async fn with_challenger(pool: &Pool, state: PipelineRunState, challenger: u32) -> Result<Vec<PipelineRun>> {
    let rows =
        sqlx::query("SELECT * FROM pipeline_runs WHERE state = $1 AND challenger = $2 ORDER BY created DESC, id DESC")
            .bind(state.as_str())
            .bind(i64::from(challenger))
            .fetch_all(pool)
            .await
            .during("list pipeline runs")?;
    rows.iter().map(run_row).collect()
}

/// A pipeline's runs, newest first, without their steps, as the writer sees them.
pub(crate) async fn history(conn: &mut Conn, pipeline: &PipelineName) -> Result<Vec<PipelineRun>> {
    let rows = sqlx::query("SELECT * FROM pipeline_runs WHERE pipeline = $1 ORDER BY created DESC, id DESC LIMIT 20")
        .bind(pipeline.as_str())
        .fetch_all(conn)
        .await
        .during("list pipeline runs")?;
    rows.iter().map(run_row).collect()
}
