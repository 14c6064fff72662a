//! Building a plain view from all stored rows.

use std::{collections::HashSet, sync::Arc};

use domain::{Field, ValueType};

use super::{effects::Writers, stock::Stock};
use crate::{
    Inner,
    error::{Doing as _, FeatureError},
    table::SourceTable,
    view::{SourcePlan, ViewPlan},
};

/// Rows between two words about how far it is.
const TELL_ROWS: usize = 5_000_000;

impl Inner {
    /// Loads what a plain view keeps of all standing rows; false when the view has to be built in memory. The caller holds
    /// the table's `writing` and has caught up.
    pub(crate) async fn build_plain(
        &self,
        plan: &Arc<SourcePlan>,
        view: &Arc<ViewPlan>,
        table: &SourceTable,
    ) -> Result<bool, FeatureError> {
        let mut needed: Vec<usize> = view.needed().chain([plan.timestamp]).chain(plan.created).collect();
        needed.sort_unstable();
        needed.dedup();
        let columns = &plan.definition.columns;
        if view.is_windowed() || needed.iter().any(|at| matches!(columns[*at].kind, ValueType::List(_))) {
            return Ok(false);
        }
        let fields: Vec<Field> =
            needed.iter().map(|at| Field::new(plan.names[*at].clone(), columns[*at].kind)).collect();
        let stock = Stock::open(table, &fields).await?;
        let folder = self.run_folder().await?;
        let (building, plan, dir) = (view.clone(), plan.clone(), folder.path().to_owned());
        let write = move || {
            let gone: HashSet<i64> = stock.replaced()?.into_iter().collect();
            let mut writers = Writers::new(std::slice::from_ref(&building), &dir);
            let (mut rows, mut told) = (0, 0);
            for batch in stock.batches(None) {
                let batch = batch?;
                writers.rows(&plan, &batch, &gone)?;
                rows += batch.num_rows();
                if rows - told >= TELL_ROWS {
                    tracing::info!(view = %building.name, rows, "building a view");
                    told = rows;
                }
            }
            writers.finish()
        };
        let runs = self.cpu.run(write).await.doing("compute online values")??;
        runs.load(&*self.kv).await?;
        Ok(true)
    }
}
