//! Answers questions.

use std::{
    fs, io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    execution::{
        SessionStateBuilder,
        context::{SQLOptions, SessionContext},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::FairSpillPool,
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::LogicalPlan,
    prelude::SessionConfig,
};
use futures::{Stream, StreamExt as _};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use crate::{
    CATALOG, Catalogue, DEFAULT_SCHEMA, SqlError,
    catalogue::Tables,
    functions,
    parameters::{number_places, places, values},
};

/// Longer texts are refused before they are read.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Rows that are computed together.
const BATCH_ROWS: usize = 8_192;
/// Batches of an answer that wait to be fetched.
const ANSWER_AHEAD: usize = 2;

/// What questions may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Memory of one question in bytes; what is more waits in files.
    pub memory_bytes: usize,
    /// Where those files stand: a directory of this process alone. What an earlier one left there is removed.
    pub temporary: PathBuf,
    /// Questions that run at once; as many more wait.
    pub at_once: usize,
    /// Threads that compute.
    pub threads: usize,
    /// How long a question may run, its answer's fetching included.
    pub deadline: Duration,
}

/// Answers questions over any catalogue. Clones share threads and limits.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    limits: Limits,
    threads: Handle,
    /// Only for its end.
    owned: Option<Runtime>,
    running: Arc<Semaphore>,
    /// Those that run and those that wait.
    taken: Arc<Semaphore>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which is not done inside another one.
        if let Some(runtime) = self.owned.take() {
            runtime.shutdown_background();
        }
    }
}

/// What an answer will look like.
#[derive(Debug, Clone)]
pub struct Described {
    pub schema: SchemaRef,
    /// A field for each place in the text.
    pub parameters: SchemaRef,
}

/// The batches of an answer. Dropping it ends the question.
pub struct Answer {
    schema: SchemaRef,
    batches: mpsc::Receiver<Result<RecordBatch, SqlError>>,
    _task: AbortOnDrop,
}

impl Answer {
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Stream for Answer {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(cx)
    }
}

impl Engine {
    /// Starts the threads.
    ///
    /// # Errors
    /// `Engine` when the operating system gives none, or no room for temporary files.
    pub fn start(limits: Limits) -> Result<Self, SqlError> {
        let no_room = |error| SqlError::Engine(format!("no room in `{}`: {error}", limits.temporary.display()));
        match fs::remove_dir_all(&limits.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(no_room(error)),
            _ => fs::create_dir_all(&limits.temporary).map_err(no_room)?,
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .thread_name("sql")
            .enable_time()
            .build()
            .map_err(|error| SqlError::Engine(format!("no threads to compute with: {error}")))?;
        Ok(Self(Arc::new(Inner {
            running: Arc::new(Semaphore::new(limits.at_once.max(1))),
            taken: Arc::new(Semaphore::new(limits.at_once.max(1) * 2)),
            threads: runtime.handle().clone(),
            owned: Some(runtime),
            limits,
        })))
    }

    /// What a question's answer will look like, and which values it wants.
    ///
    /// # Errors
    /// `Query`, `NotAQuery`, `TooLong`, `Parameters`, and what opening the tables says.
    pub async fn describe(&self, catalogue: Arc<dyn Catalogue>, sql: &str) -> Result<Described, SqlError> {
        let (inner, text, home) = (self.0.clone(), numbered(sql)?, Handle::current());
        let until = Instant::now() + inner.limits.deadline;
        let work = self.0.threads.spawn(async move {
            let planning = async {
                let (_, plan) = inner.plan(catalogue, home, &text).await?;
                Ok(Described { schema: Arc::new(plan.schema().as_arrow().clone()), parameters: places(&plan)? })
            };
            timeout_at(until, planning).await.map_err(|_| SqlError::Late(inner.limits.deadline))?
        });
        let _ending = AbortOnDrop(work.abort_handle());
        work.await.map_err(|_| SqlError::Stopped)?
    }

    /// Begins to answer; `parameters` is a table of one row with a column for each place in the text.
    ///
    /// # Errors
    /// As [`Engine::describe`], and `Busy`. What happens later comes with the answer.
    pub async fn ask(
        &self,
        catalogue: Arc<dyn Catalogue>,
        sql: &str,
        parameters: Option<RecordBatch>,
    ) -> Result<Answer, SqlError> {
        let (inner, text, home) = (self.0.clone(), numbered(sql)?, Handle::current());
        let until = Instant::now() + inner.limits.deadline;
        let taken = inner.taken.clone().try_acquire_owned().map_err(|_| SqlError::Busy(inner.limits.at_once))?;
        let (head, opened) = tokio::sync::oneshot::channel();
        let (sender, batches) = mpsc::channel(ANSWER_AHEAD);
        let work = self.0.threads.spawn(async move {
            let _taken: OwnedSemaphorePermit = taken;
            let late = || SqlError::Late(inner.limits.deadline);
            let begun = timeout_at(until, inner.begin(catalogue, home, &text, parameters.as_ref())).await;
            let (_seat, mut stream) = match begun.unwrap_or_else(|_| Err(late())) {
                Ok(begun) => begun,
                Err(error) => {
                    let _ = head.send(Err(error));
                    return;
                }
            };
            if head.send(Ok(stream.schema())).is_err() {
                return;
            }
            loop {
                let next = match timeout_at(until, stream.next()).await {
                    Ok(None) => return,
                    Ok(Some(next)) => next.map_err(|error| SqlError::of(error, inner.limits.memory_bytes)),
                    Err(_) => Err(late()),
                };
                let failed = next.is_err();
                // A client that does not fetch holds a seat no longer than any other.
                if timeout_at(until, sender.send(next)).await.is_err() || failed {
                    return;
                }
            }
        });
        let task = AbortOnDrop(work.abort_handle());
        let schema = opened.await.map_err(|_| SqlError::Stopped)??;
        Ok(Answer { schema, batches, _task: task })
    }
}

/// Ends a task whose caller went away.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn numbered(sql: &str) -> Result<String, SqlError> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(SqlError::TooLong { bytes: sql.len(), max: TEXT_BYTES_MAX });
    }
    number_places(sql)
}

impl Inner {
    /// A session for one question, with memory of its own.
    fn session(&self, catalogue: Arc<dyn Catalogue>, home: Handle) -> Result<SessionContext, SqlError> {
        let failed = |error| SqlError::of(error, self.limits.memory_bytes);
        let spill =
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![self.limits.temporary.clone()]));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(self.limits.memory_bytes)))
            .with_disk_manager_builder(spill)
            .build_arc()
            .map_err(failed)?;
        let config = SessionConfig::new()
            .with_target_partitions(self.limits.threads.max(1))
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(true)
            // Not every driver knows the types of views of text.
            .set_bool("datafusion.optimizer.expand_views_at_output", true)
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA);
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(environment)
            .with_default_features()
            .build();
        let session = SessionContext::new_with_state(state);
        session.register_catalog(CATALOG, Arc::new(Tables::new(catalogue, home)));
        functions::all().into_iter().for_each(|function| session.register_udf(function));
        Ok(session)
    }

    async fn plan(
        &self,
        catalogue: Arc<dyn Catalogue>,
        home: Handle,
        text: &str,
    ) -> Result<(SessionContext, LogicalPlan), SqlError> {
        let session = self.session(catalogue, home)?;
        let failed = |error| SqlError::of(error, self.limits.memory_bytes);
        let plan = session.state().create_logical_plan(text).await.map_err(failed)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|_| SqlError::NotAQuery(format!("this is {}", kind_of(&plan))))?;
        Ok((session, plan))
    }

    /// Waits for a seat, plans and opens the stream.
    async fn begin(
        &self,
        catalogue: Arc<dyn Catalogue>,
        home: Handle,
        text: &str,
        parameters: Option<&RecordBatch>,
    ) -> Result<(OwnedSemaphorePermit, datafusion::execution::SendableRecordBatchStream), SqlError> {
        let seat = self.running.clone().acquire_owned().await.map_err(|_| SqlError::Stopped)?;
        let failed = |error| SqlError::of(error, self.limits.memory_bytes);
        let (session, mut plan) = self.plan(catalogue, home, text).await?;
        let wanted = places(&plan)?.fields().len();
        if let Some(values) = values(parameters, wanted)? {
            plan = plan.with_param_values(values).map_err(failed)?;
        }
        let frame = session.execute_logical_plan(plan).await.map_err(failed)?;
        Ok((seat, frame.execute_stream().await.map_err(failed)?))
    }
}

/// What a plan does, for people.
fn kind_of(plan: &LogicalPlan) -> String {
    let shown = plan.display().to_string();
    shown.split([':', ' ', '(']).next().unwrap_or_default().to_owned()
}
