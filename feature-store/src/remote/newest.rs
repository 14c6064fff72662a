//! The newest values of a window: each row carries the last so many, the newest row's are cut to the window.

use std::sync::Arc;

use domain::{Column, ListType, Scalar, Value, ValueType};
use spark::Session;

use super::{
    answer::{self, Places},
    source::Remoted,
    spine::Questions,
    sql,
};
use crate::{error::FeatureError, table::corrupt, view::ViewPlan, window::WindowSpan};

/// The newest `most` values of the source's column `column` in each question's window, oldest first.
#[expect(clippy::too_many_arguments, reason = "what the output is, and whom to ask")]
pub(super) async fn ask(
    session: &mut Session,
    source: &Remoted,
    view: &ViewPlan,
    column: usize,
    most: u32,
    span: WindowSpan,
    kind: ValueType,
    questions: &Questions<'_>,
) -> Result<Column, FeatureError> {
    let ends: Vec<_> = questions.at.iter().map(|at| span.ends(at.micros())).collect();
    let closes = ends.iter().map(|ends| ends.close).collect();
    let spine = questions.send(session, &[("e".to_owned(), closes)]).await?;
    let live = source.as_of(view, vec![source.column(column)]).live();
    let times = ValueType::List(ListType { element: Scalar::Int, length: None });
    let found = answer::fetch(session, &query(&live, view.keys.len(), most, &spine), &[times, kind]).await?;
    let places = Places::of(&found, questions.rows())?;
    let (times, values) = (found.require(&answer::feature(0))?, found.require(&answer::feature(1))?);
    let mut out = Column::with_capacity(kind, questions.rows());
    for (row, (place, ends)) in places.iter().zip(&ends).enumerate() {
        let value = match place {
            _ if questions.keyless(row) => Value::Null,
            None => Value::List(Arc::from([])),
            Some(place) => match (times.get(place), values.get(place)) {
                (Value::List(times), Value::List(values)) if times.len() == values.len() => {
                    let inside = |time: &Value| matches!(time, Value::Int(time) if *time > ends.open);
                    Value::List(
                        times.iter().zip(&*values).filter(|(time, _)| inside(time)).map(|(_, v)| v.clone()).collect(),
                    )
                }
                _ => return Err(corrupt("Spark answered lists of two lengths".into())),
            },
        };
        out.push(value).map_err(|error| corrupt(error.to_string()))?;
    }
    Ok(out)
}

fn query(live: &str, keys: usize, most: u32, spine: &str) -> String {
    let (keys, keyed) = (sql::keys(keys), sql::keyed(keys));
    let before = most.saturating_sub(1);
    let last =
        format!("(PARTITION BY {keys} ORDER BY t, c NULLS FIRST, r ROWS BETWEEN {before} PRECEDING AND CURRENT ROW)");
    let window = sql::so_far(&keys, "t, q, c NULLS FIRST, r");
    format!(
        "WITH live AS ({live}), \
         lasts AS (SELECT {keys}, t, c, r, COLLECT_LIST(t) OVER {last} AS e, COLLECT_LIST(f0) OVER {last} AS x FROM live WHERE f0 IS NOT NULL), \
         merged AS (SELECT {keys}, t, 0 AS q, c, r, CAST(NULL AS BIGINT) AS n, named_struct('e', e, 'x', x) AS v FROM lasts \
         UNION ALL SELECT {keys}, e, 1, CAST(NULL AS BIGINT), CAST(NULL AS BIGINT), n, NULL FROM {spine} AS s WHERE {keyed}), \
         found AS (SELECT n, q, LAST_VALUE(v) IGNORE NULLS OVER {window} AS v FROM merged) \
         SELECT n, CAST(NULL AS BIGINT) AS t, v.e AS f0, v.x AS f1 FROM found WHERE q = 1 AND v IS NOT NULL"
    )
}
