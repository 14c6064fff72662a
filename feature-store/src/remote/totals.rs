//! Windows of totals: running counts, sums and sums of squares at both ends of each window, as whole numbers.

use std::collections::BTreeMap;

use arrow::{
    array::{Array as _, AsArray as _},
    compute::cast,
    datatypes::{DataType, Decimal128Type, Int64Type},
};
use domain::{Column, Timestamp, ValueType};
use spark::Session;

use super::{answer, source::Remoted, spine::Questions, sql};
use crate::{
    answer::Newest,
    error::FeatureError,
    exact::{Exact, Totals},
    offline::window_column,
    table::corrupt,
    view::{Rule, ViewPlan},
    window::WindowSpan,
};

/// What is known of every question.
pub(super) struct Answered {
    /// By kept column and window; `None` where a key is null.
    totals: BTreeMap<(usize, WindowSpan), Vec<Option<Totals>>>,
    pub(super) newest: Vec<Newest>,
}

impl Answered {
    pub(super) fn column(&self, function: Exact, kept: usize, window: WindowSpan) -> Result<Column, FeatureError> {
        let totals = self.totals.get(&(kept, window)).ok_or_else(|| corrupt("a window that was not asked".into()))?;
        window_column(function, totals.iter().copied())
    }
}

/// Asks for the totals of all windows among the outputs, and for the newest event.
pub(super) async fn ask(
    session: &mut Session,
    source: &Remoted,
    view: &ViewPlan,
    outputs: &[usize],
    questions: &Questions<'_>,
) -> Result<Answered, FeatureError> {
    let mut wanted: Vec<(usize, WindowSpan)> = Vec::new();
    for &index in outputs {
        if let Rule::Window { kept, window, .. } = view.outputs[index].rule
            && !wanted.contains(&(kept, window))
        {
            wanted.push((kept, window));
        }
    }
    let mut spans: Vec<WindowSpan> = wanted.iter().map(|(_, window)| *window).collect();
    spans.sort_unstable();
    spans.dedup();
    let mut ends = Vec::with_capacity(spans.len() * 2);
    for (number, span) in spans.iter().enumerate() {
        let both = questions.at.iter().map(|at| span.ends(at.micros()));
        let (open, close) = both.map(|ends| (ends.open, ends.close)).unzip();
        ends.extend([(format!("o{number}"), open), (format!("c{number}"), close)]);
    }
    let spine = questions.send(session, &ends).await?;
    let sql = query(source, view, &wanted, &spans, &spine);
    let unanswered = |row: usize| if questions.keyless(row) { None } else { Some(Totals::default()) };
    let none: Vec<Option<Totals>> = (0..questions.rows()).map(unanswered).collect();
    let mut totals: BTreeMap<_, _> = wanted.iter().map(|asked| (*asked, none.clone())).collect();
    let mut newest = vec![Newest::Nothing; questions.rows()];
    let mut rows = session.query(&sql).await?;
    while let Some(batch) = rows.next().await? {
        let number = |name: &str| answer::array(&batch, name, |array| array.as_primitive_opt::<Int64Type>());
        let (places, times) = (number("n")?, number("t")?);
        let place = |row: usize| {
            let place = usize::try_from(places.value(row)).ok().filter(|place| *place < questions.rows());
            place.ok_or_else(|| corrupt("Spark answered what nobody asked".into()))
        };
        for row in 0..batch.num_rows() {
            if !times.is_null(row) {
                let (place, time) = (place(row)?, Timestamp::from_micros(times.value(row)));
                let young = view.in_time(time, questions.at[place]);
                newest[place] = if young { Newest::At(time) } else { Newest::TooOld(time) };
            }
        }
        for (at, asked) in wanted.iter().enumerate() {
            let whole = |name: String| {
                let array =
                    batch.column_by_name(&name).ok_or_else(|| corrupt(format!("Spark answered without {name}")))?;
                cast(array, &DataType::Decimal128(38, 0)).map_err(|error| corrupt(error.to_string()))
            };
            let all = [whole(format!("n{at}"))?, whole(format!("s{at}"))?, whole(format!("z{at}"))?];
            let [counts, sums, squares] = all.each_ref().map(|array| array.as_primitive::<Decimal128Type>());
            let Some(into) = totals.get_mut(asked) else { continue };
            for row in 0..batch.num_rows() {
                if sums.is_null(row) || squares.is_null(row) {
                    return Err(corrupt("a sum is beyond what Spark's decimals hold".into()));
                }
                into[place(row)?] = Some(Totals {
                    count: u64::try_from(counts.value(row)).unwrap_or(0),
                    sum: sums.value(row),
                    squares: squares.value(row).unsigned_abs(),
                });
            }
        }
    }
    drop(rows);
    Ok(Answered { totals, newest })
}

/// `n`, `t` (the newest event), and for each of `wanted` the count `n0`, the sum `s0` and the sum of squares `z0`.
fn query(
    source: &Remoted,
    view: &ViewPlan,
    wanted: &[(usize, WindowSpan)],
    spans: &[WindowSpan],
    spine: &str,
) -> String {
    let mut kept: Vec<usize> = wanted.iter().map(|(kept, _)| *kept).collect();
    kept.sort_unstable();
    kept.dedup();
    let values = kept.iter().map(|&at| millionths(&source.column(view.kept[at].at), view.kept[at].kind));
    let live = source.as_of(view, values.collect()).live();
    let (keys, keyed) = (sql::keys(view.keys.len()), sql::keyed(view.keys.len()));
    let all = |each: &dyn Fn(usize) -> String| (0..kept.len()).map(each).collect::<String>();
    let (values, nulls) = (all(&|at| format!(", f{at}")), all(&|_| ", CAST(NULL AS BIGINT)".into()));
    // A question at each instant where a window opens or closes, and one at its own.
    let marks = (0..spans.len()).flat_map(|at| [format!("o{at}"), format!("c{at}")]).chain(["a".to_owned()]);
    let marks: String = marks
        .enumerate()
        .map(|(mark, at)| {
            format!(" UNION ALL SELECT {keys}, {at}, 1, n, {mark}, CAST(NULL AS BIGINT){nulls} FROM asked")
        })
        .collect();
    let window = sql::so_far(&keys, "t, q");
    let running = all(&|at| {
        let whole = format!("CAST(f{at} AS DECIMAL(19, 0))");
        let squares = if view.kept[kept[at]].squares {
            format!("COALESCE(SUM({whole} * {whole}) OVER {window}, 0)")
        } else {
            "0".into()
        };
        format!(
            ", COUNT(f{at}) OVER {window} AS n{at}, COALESCE(SUM({whole}) OVER {window}, 0) AS s{at}, \
             {squares} AS z{at}"
        )
    });
    let newest = spans.len() * 2;
    let out: String = wanted
        .iter()
        .enumerate()
        .map(|(number, (column, span))| {
            let of = kept.binary_search(column).unwrap_or_default();
            let mark = spans.binary_search(span).unwrap_or_default() * 2;
            let between = |what: char| {
                let at = |mark: usize| format!("MAX(CASE WHEN m = {mark} THEN {what}{of} END)");
                format!(", CAST({} - {} AS DECIMAL(38, 0)) AS {what}{number}", at(mark + 1), at(mark))
            };
            ['n', 's', 'z'].map(between).concat()
        })
        .collect();
    format!(
        "WITH live AS ({live}), asked AS (SELECT * FROM {spine} AS s WHERE {keyed}), merged AS (\
         SELECT {keys}, t, 0 AS q, CAST(NULL AS BIGINT) AS n, -1 AS m, t AS e{values} FROM live{marks}), \
         running AS (SELECT n, q, m, MAX(e) OVER {window} AS e{running} FROM merged) \
         SELECT n, MAX(CASE WHEN m = {newest} THEN e END) AS t{out} FROM running WHERE q = 1 GROUP BY n"
    )
}

/// The value as whole millionths, as [`crate::exact::fixed`] has it: floats are rounded half away from zero.
fn millionths(column: &str, kind: ValueType) -> String {
    match kind {
        ValueType::Bool => {
            format!("CASE WHEN {column} THEN CAST(1000000 AS BIGINT) WHEN NOT {column} THEN CAST(0 AS BIGINT) END")
        }
        ValueType::Int => format!("{column} * CAST(1000000 AS BIGINT)"),
        ValueType::Float => {
            let scaled = format!("({column} * CAST(1000000 AS DOUBLE))");
            let whole = format!("CAST({scaled} AS BIGINT)");
            // What is cut off is exact: so large a float has no fraction, or whole and fraction are both floats.
            let rest = format!("({scaled} - CAST({whole} AS DOUBLE))");
            format!(
                "{whole} + CASE WHEN {rest} >= CAST(0.5 AS DOUBLE) THEN 1 WHEN {rest} <= CAST(-0.5 AS DOUBLE) THEN -1 ELSE 0 END"
            )
        }
        ValueType::Text | ValueType::Timestamp | ValueType::List(_) => "CAST(NULL AS BIGINT)".into(),
    }
}
