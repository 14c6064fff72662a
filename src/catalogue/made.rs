//! Tables whose rows are made as they are read.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use domain::{Coded, ErrorCode, Timestamp};
use futures::{StreamExt as _, future::BoxFuture};
use sql::{Batches, Fault, Rows, Scan};

type Make = dyn Fn((Timestamp, Timestamp)) -> BoxFuture<'static, Result<Batches, Fault>> + Send + Sync;

/// A table that is made whole, whatever columns are wanted of it.
pub(super) struct Made {
    schema: SchemaRef,
    time: Option<&'static str>,
    make: Box<Make>,
}

impl Made {
    /// `make` is given the least and the greatest instant wanted; without `time` that is all there are.
    pub(super) fn rows(
        schema: SchemaRef,
        time: Option<&'static str>,
        make: impl Fn((Timestamp, Timestamp)) -> BoxFuture<'static, Result<Batches, Fault>> + Send + Sync + 'static,
    ) -> Arc<dyn Rows> {
        Arc::new(Self { schema, time, make: Box::new(make) })
    }
}

#[async_trait]
impl Rows for Made {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn time(&self) -> Option<&str> {
        self.time
    }

    async fn scan(&self, scan: Scan) -> Result<Batches, Fault> {
        let made = (self.make)(span(&scan)).await?;
        Ok(made.map(move |batch| batch?.project(&scan.columns).map_err(broken)).boxed())
    }
}

/// The instants a scan is narrowed to.
pub(super) fn span(scan: &Scan) -> (Timestamp, Timestamp) {
    let within = |micros: i64| Timestamp::from_micros(micros.clamp(Timestamp::MIN.micros(), Timestamp::MAX.micros()));
    (within(scan.from), within(scan.to))
}

/// What a room says, for the engine.
pub(super) fn fault<E: Coded>(error: E) -> Fault {
    Fault::of(&error)
}

/// A table that is not as it was promised.
pub(super) fn broken(error: impl std::fmt::Display) -> Fault {
    Fault { code: ErrorCode::Internal, message: format!("a table could not be made: {error}"), hint: String::new() }
}

/// A stream that is one batch, or the error of making it.
pub(super) fn one(batch: Result<RecordBatch, Fault>) -> Batches {
    futures::stream::iter([batch]).boxed()
}
