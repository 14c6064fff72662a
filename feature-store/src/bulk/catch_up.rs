//! Rows that a large body left in the table and not online: after a crash, or a failed load.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
};

use domain::Field;
use lake::Numbers;

use super::{
    effects::{self, Marks, Writers},
    stock::Stock,
};
use crate::{
    Inner,
    error::{Doing as _, FeatureError},
    table::SourceTable,
    view::SourcePlan,
};

impl Inner {
    /// Brings waiting rows online column by column; false when they have to be taken one by one. The caller holds the
    /// table's `writing`.
    pub(crate) async fn catch_up_bulk(
        &self,
        plan: &Arc<SourcePlan>,
        table: &SourceTable,
    ) -> Result<bool, FeatureError> {
        let (applied, rows) = (table.applied.load(Ordering::SeqCst), table.rows());
        if !effects::is_plain(plan) || rows.saturating_sub(applied) < self.bulk.rows_min {
            return Ok(false);
        }
        let applied = i64::try_from(applied).unwrap_or(i64::MAX);
        let fields: Vec<Field> = plan.definition.columns.iter().map(|c| Field::new(c.name.as_str(), c.kind)).collect();
        let stock = Stock::open(table, &fields).await?.numbered(applied, i64::MAX);
        if stock.corrects()? {
            // A large body brings none: these rows came in small ones.
            return Ok(false);
        }
        let source = &plan.definition.name;
        tracing::info!(%source, rows = rows.saturating_sub(applied.unsigned_abs()), "bringing stored rows online");
        let folder = self.run_folder().await?;
        let (writing, dir) = (plan.clone(), folder.path().to_owned());
        let write = move || {
            let waiting: Numbers = Arc::new(move |number| number >= applied);
            let mut writers = Writers::new(&writing.views, &dir);
            for batch in stock.batches(Some(waiting)) {
                let batch = batch?;
                writers.rows(&writing, &batch, &HashSet::new())?;
                writers.marks(Marks::of(&writing, &batch)?)?;
            }
            writers.finish()
        };
        let runs = self.cpu.run(write).await.doing("compute online values")??;
        self.load_runs(plan, table, runs).await?;
        Ok(true)
    }
}
