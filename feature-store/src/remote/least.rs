//! Least and greatest values of windows, by tiles as in [`crate::window`]: the tile under way by a running value, whole tiles
//! before it by a window function over one row for each.

use std::collections::BTreeSet;

use domain::{Column, Value, ValueType};
use spark::Session;

use super::{
    answer::{self, Places},
    source::Remoted,
    spine::Questions,
    sql,
};
use crate::{
    error::FeatureError,
    offline::pick,
    view::ViewPlan,
    window::{Fold, WindowSpan, floor},
};

/// The least or greatest value of the source's column `column` in each question's window.
#[expect(clippy::too_many_arguments, reason = "what the output is, and whom to ask")]
pub(super) async fn ask(
    session: &mut Session,
    source: &Remoted,
    view: &ViewPlan,
    column: usize,
    fold: Fold,
    span: WindowSpan,
    kind: ValueType,
    questions: &Questions<'_>,
) -> Result<Column, FeatureError> {
    let grain = span.grain();
    let (mut closes, mut tiles, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for at in questions.at {
        let ends = span.ends(at.micros());
        let tile = floor(ends.close, grain);
        closes.push(ends.close);
        tiles.push(tile);
        behind.push(tile.saturating_sub(ends.open.saturating_add(1)) / grain);
    }
    // Two, as a question lies within its tile; more only near the ends of time.
    let depths: BTreeSet<i64> = behind.iter().copied().filter(|depth| *depth > 0).collect();
    let more = [("e".to_owned(), closes), ("s".to_owned(), tiles), ("d".to_owned(), behind)];
    let spine = questions.send(session, &more).await?;
    let value = comparable(&source.column(column), kind);
    let live = source.as_of(view, vec![value]).live();
    let found = answer::fetch(session, &query(&live, view.keys.len(), fold, grain, &depths, &spine), &[kind]).await?;
    let places = Places::of(&found, questions.rows())?;
    Ok(pick(found.require(&answer::feature(0))?, places.iter(), &Value::Null))
}

fn query(live: &str, keys: usize, fold: Fold, grain: i64, depths: &BTreeSet<i64>, spine: &str) -> String {
    let (best, of_two) = if fold == Fold::Least { ("MIN", "LEAST") } else { ("MAX", "GREATEST") };
    let (keys, keyed) = (sql::keys(keys), sql::keyed(keys));
    let head = sql::so_far(&format!("{keys}, s"), "t, q");
    let frame = |depth: &i64| {
        let from = depth.saturating_mul(grain);
        format!(
            ", {best}(f0) OVER (PARTITION BY {keys} ORDER BY s RANGE BETWEEN {from} PRECEDING AND {grain} PRECEDING) AS w{depth}"
        )
    };
    let frames: String = depths.iter().map(frame).collect();
    let cases: String = depths.iter().map(|depth| format!(" WHEN w.d = {depth} THEN w.w{depth}")).collect();
    let whole = if cases.is_empty() { "h.h".to_owned() } else { format!("{of_two}(h.h, CASE{cases} END)") };
    format!(
        "WITH live AS ({live}), asked AS (SELECT * FROM {spine} AS s WHERE {keyed}), \
         tiled AS (SELECT {keys}, t, t - pmod(t, CAST({grain} AS BIGINT)) AS s, f0 FROM live WHERE f0 IS NOT NULL), \
         inside AS (SELECT {keys}, s, t, 0 AS q, CAST(NULL AS BIGINT) AS n, f0 FROM tiled \
         UNION ALL SELECT {keys}, s, e, 1, n, NULL FROM asked), \
         heads AS (SELECT n, q, {best}(f0) OVER {head} AS h FROM inside), \
         tiles AS (SELECT {keys}, s, 0 AS q, CAST(NULL AS BIGINT) AS n, CAST(NULL AS BIGINT) AS d, {best}(f0) AS f0 FROM tiled GROUP BY {keys}, s \
         UNION ALL SELECT {keys}, s, 1, n, d, NULL FROM asked), \
         wholes AS (SELECT n, q, d{frames} FROM tiles) \
         SELECT h.n AS n, CAST(NULL AS BIGINT) AS t, {whole} AS f0 FROM heads AS h JOIN wholes AS w ON h.n = w.n \
         WHERE h.q = 1 AND w.q = 1"
    )
}

/// The column as numbers that compare as its values do.
fn comparable(column: &str, kind: ValueType) -> String {
    match kind {
        ValueType::Bool => format!("CAST({column} AS INT)"),
        ValueType::Timestamp => format!("unix_micros({column})"),
        ValueType::Int | ValueType::Float | ValueType::Text | ValueType::List(_) => column.to_owned(),
    }
}
