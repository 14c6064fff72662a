//! Where a join runs, and why.

use std::{collections::BTreeSet, fmt};

use domain::{ServiceName, ValueType};
use serde::Serialize;
use spark::Spark;

use crate::{
    FeatureStore, Inner,
    catalog::{Catalog, ServicePlan},
    error::FeatureError,
    view::Rule,
    window::Fold,
};

/// Memory of a question while it is joined, as `decisions/0010` has it.
const QUESTION_BYTES: u64 = 150;

/// Where joins run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinPlace {
    /// Here, unless there is a Spark server and the join would not fit.
    #[default]
    Auto,
    Local,
    Spark,
}

impl fmt::Display for JoinPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Local => "local",
            Self::Spark => "spark",
        })
    }
}

/// Who may run joins beside this process.
#[derive(Debug, Clone, Default)]
pub struct Remote {
    pub spark: Option<Spark>,
    pub place: JoinPlace,
}

/// Where a join would run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinPlan {
    /// `local` or `spark`.
    pub place: JoinPlace,
    pub reason: String,
    pub questions: u64,
    /// Rows of the sources, as far as they are known.
    pub rows: u64,
    /// What the join would keep in memory here, about.
    pub bytes: u64,
}

impl FeatureStore {
    /// Where the join of the service to so many questions would run.
    ///
    /// # Errors
    /// `Unknown` service; `NotOnSpark` where only Spark may be asked and cannot answer.
    pub fn join_plan(&self, service: &ServiceName, questions: u64) -> Result<JoinPlan, FeatureError> {
        let catalog = self.0.catalog();
        let plan = catalog.service(service)?;
        self.0.join_plan(&catalog, &plan, questions)
    }
}

impl Inner {
    pub(crate) fn join_plan(
        &self,
        catalog: &Catalog,
        plan: &ServicePlan,
        questions: u64,
    ) -> Result<JoinPlan, FeatureError> {
        let (rows, source_bytes) = self.estimate(catalog, plan)?;
        let bytes = source_bytes.saturating_add(questions.saturating_mul(QUESTION_BYTES));
        let at = |place: JoinPlace, reason: String| Ok(JoinPlan { place, reason, questions, rows, bytes });
        let most = self.joins.memory_bytes as u64;
        let need = format!("{rows} rows and {questions} questions need about {bytes} bytes");
        match (self.remote.place, &self.remote.spark) {
            (JoinPlace::Local, _) => at(JoinPlace::Local, "`joins.place` is `local`".into()),
            (_, None) => at(JoinPlace::Local, "no Spark server is set (`joins.spark_url`)".into()),
            (JoinPlace::Spark, Some(_)) => match refusal(plan) {
                Some(refused) => Err(refused),
                None => at(JoinPlace::Spark, "`joins.place` is `spark`".into()),
            },
            (JoinPlace::Auto, Some(_)) if bytes <= most => {
                at(JoinPlace::Local, format!("{need}; `features.join_memory_bytes` is {most}"))
            }
            (JoinPlace::Auto, Some(_)) => match refusal(plan) {
                Some(refused) => at(JoinPlace::Local, format!("{need}, more than {most}, but {refused}")),
                None => at(JoinPlace::Spark, format!("{need}; `features.join_memory_bytes` is only {most}")),
            },
        }
    }

    /// Rows of the plan's sources and bytes of what is needed of them, decoded.
    fn estimate(&self, catalog: &Catalog, plan: &ServicePlan) -> Result<(u64, u64), FeatureError> {
        let (mut rows, mut bytes) = (0u64, 0u64);
        let sources: BTreeSet<_> = plan.parts.iter().map(|part| &part.view.source).collect();
        for name in sources {
            let source = catalog.source(name)?;
            let of = plan.parts.iter().filter(|part| part.view.source == *name);
            let columns: BTreeSet<usize> = of.flat_map(|part| part.view.needed()).chain([source.timestamp]).collect();
            // Beside the row's number and the number of the row that it puts right.
            let width: u64 = 16 + columns.iter().map(|&at| width(source.definition.columns[at].kind)).sum::<u64>();
            let count = self.source_table(name)?.rows();
            rows = rows.saturating_add(count);
            bytes = bytes.saturating_add(count.saturating_mul(width));
        }
        Ok((rows, bytes))
    }
}

/// Bytes of a value in memory, about.
fn width(kind: ValueType) -> u64 {
    match kind {
        ValueType::Bool => 1,
        ValueType::Int | ValueType::Float | ValueType::Timestamp => 8,
        ValueType::Text => 24,
        ValueType::List(list) => 8 * u64::from(list.length.unwrap_or(16)),
    }
}

/// Why Spark would not give the same answer, where it would not.
fn refusal(plan: &ServicePlan) -> Option<FeatureError> {
    let outputs =
        plan.parts.iter().flat_map(|part| part.outputs.iter().map(move |&at| (&part.view, &part.view.outputs[at])));
    outputs.into_iter().find_map(|(view, output)| {
        let Rule::Tile(rule) = &output.rule else { return None };
        let chain = &view.tiles.0[rule.chain];
        let sketch = match chain.slots[rule.slot].fold {
            Fold::Distinct => "distinct",
            Fold::Quantile => "quantile",
            Fold::Least | Fold::Greatest | Fold::Last(_) => return None,
        };
        let reason = format!("`{}` is a {sketch}, a sketch of ours that Spark does not have", output.name);
        Some(FeatureError::NotOnSpark { view: view.name.to_string(), reason })
    })
}
