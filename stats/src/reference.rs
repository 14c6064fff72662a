//! What a model's training rows looked like: kept with the version as `reference.json`, and what later
//! windows are counted against.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::drift::{ColumnDrift, ks, pooled_p_and_psi, total_variation, total_variation_noise};

/// Cells of a numeric column by default: at most 19 inner edges.
pub const BINS: usize = 20;
/// Categories kept by name by default; the rest are `other`.
pub const TOP: usize = 50;

/// `reference.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// By name of the model's input column.
    pub columns: BTreeMap<String, ColumnReference>,
    /// Of the scores on the holdout; numeric.
    pub prediction: ColumnReference,
    /// Mean increase of holdout log loss when the column is permuted, 0 or more.
    pub importance: BTreeMap<String, f64>,
    pub holdout: Holdout,
}

/// How good the version was on the rows kept out of its training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Holdout {
    pub rows: u64,
    pub log_loss: f64,
    /// Null when all labels were the same.
    pub auc: Option<f64>,
    pub brier: f64,
    /// Share of positive labels.
    pub rate: f64,
}

/// One column's cells and how many reference rows fell into each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ColumnReference {
    Numeric {
        /// Ascending. Cell i holds values above `edges[i - 1]` and up to `edges[i]`, the last one what is above all.
        edges: Vec<f64>,
        /// One more than edges.
        counts: Vec<u64>,
        nulls: u64,
    },
    Categorical {
        counts: BTreeMap<String, u64>,
        /// Rows of all other categories together.
        other: u64,
        nulls: u64,
    },
}

/// Rows of a window by the cells of a [`ColumnReference`]: numeric cells in order; or categories in the order of
/// their names and then `other`. Counts of parts of a window merge into those of the whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub cells: Vec<u64>,
    pub nulls: u64,
}

impl Counts {
    /// Rows counted, nulls too.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.cells.iter().sum::<u64>() + self.nulls
    }

    /// Adds the rows of another part, counted against the same reference.
    ///
    /// # Panics
    /// When the numbers of cells differ and neither is empty.
    pub fn merge(&mut self, other: &Self) {
        if self.cells.is_empty() {
            self.cells.resize(other.cells.len(), 0);
        }
        assert!(other.cells.is_empty() || self.cells.len() == other.cells.len(), "counted against the same reference");
        self.cells.iter_mut().zip(&other.cells).for_each(|(mine, theirs)| *mine += theirs);
        self.nulls += other.nulls;
    }

    /// The cells and then the nulls as a cell of their own.
    fn with_nulls(&self) -> Vec<u64> {
        self.cells.iter().copied().chain([self.nulls]).collect()
    }
}

impl ColumnReference {
    /// Cuts a numeric column into at most `bins` cells (2 to 20; other numbers are brought to the nearest of
    /// these) of about equal count: the edges are the quantiles i / bins of the values (inverse of the empirical
    /// distribution, Hyndman and Fan's type 1), each once. A column with few different values gets a cell for
    /// each of them and one on either side, so that a value never seen shows. NaN counts as null.
    #[must_use]
    pub fn fit_numeric(values: &[Option<f64>], bins: usize) -> Self {
        let bins = bins.clamp(2, BINS);
        let mut sorted: Vec<f64> = values.iter().flatten().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let edges = edges(&sorted, bins);
        let counts = vec![0; edges.len() + 1];
        let mut fitted = Self::Numeric { edges, counts, nulls: 0 };
        let counted = fitted.count_numeric(values);
        if let Self::Numeric { counts, nulls, .. } = &mut fitted {
            (*counts, *nulls) = (counted.cells, counted.nulls);
        }
        fitted
    }

    /// Keeps the `top` most frequent categories by name (of equally frequent ones the alphabetically first).
    #[must_use]
    pub fn fit_categorical<S: AsRef<str>>(values: &[Option<S>], top: usize) -> Self {
        let mut found: HashMap<&str, u64> = HashMap::new();
        for value in values.iter().flatten() {
            *found.entry(value.as_ref()).or_default() += 1;
        }
        let nulls = values.iter().filter(|value| value.is_none()).count() as u64;
        let mut ranked: Vec<_> = found.into_iter().collect();
        ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        let other = ranked.iter().skip(top).map(|(_, count)| count).sum();
        let counts = ranked.into_iter().take(top).map(|(name, count)| (name.to_owned(), count)).collect();
        Self::Categorical { counts, other, nulls }
    }

    /// Counts numbers by this column's cells. NaN counts as null; in a categorical column a number is `other`.
    #[must_use]
    pub fn count_numeric(&self, values: &[Option<f64>]) -> Counts {
        let mut counts = self.no_rows();
        for value in values {
            match value {
                Some(value) if !value.is_nan() => {
                    let cell = match self {
                        Self::Numeric { edges, .. } => edges.partition_point(|edge| edge < value),
                        Self::Categorical { counts, .. } => counts.len(),
                    };
                    counts.cells[cell] += 1;
                }
                _ => counts.nulls += 1,
            }
        }
        counts
    }

    /// Counts categories by this column's cells; one the reference does not name is `other`. In a numeric
    /// column a text is no number and counts as null.
    #[must_use]
    pub fn count_categorical<S: AsRef<str>>(&self, values: &[Option<S>]) -> Counts {
        let mut counts = self.no_rows();
        let places: HashMap<&str, usize> = match self {
            Self::Numeric { .. } => HashMap::new(),
            Self::Categorical { counts, .. } => counts.keys().map(String::as_str).zip(0..).collect(),
        };
        for value in values {
            match (value, self) {
                (Some(value), Self::Categorical { counts: known, .. }) => {
                    counts.cells[places.get(value.as_ref()).copied().unwrap_or(known.len())] += 1;
                }
                _ => counts.nulls += 1,
            }
        }
        counts
    }

    /// The reference's own rows in the shape of a window's.
    #[must_use]
    pub fn counts(&self) -> Counts {
        match self {
            Self::Numeric { counts, nulls, .. } => Counts { cells: counts.clone(), nulls: *nulls },
            Self::Categorical { counts, other, nulls } => {
                Counts { cells: counts.values().copied().chain([*other]).collect(), nulls: *nulls }
            }
        }
    }

    /// What to call each of [`Counts::cells`]: `up to 3`, `3 to 7.5`, `above 7.5`, or the category, or `other`.
    #[must_use]
    pub fn cell_names(&self) -> Vec<String> {
        match self {
            Self::Numeric { edges, .. } => (0..=edges.len())
                .map(|cell| match (cell.checked_sub(1).and_then(|below| edges.get(below)), edges.get(cell)) {
                    (None, None) => "any".to_owned(),
                    (None, Some(to)) => format!("up to {to}"),
                    (Some(from), Some(to)) => format!("{from} to {to}"),
                    (Some(from), None) => format!("above {from}"),
                })
                .collect(),
            Self::Categorical { counts, .. } => counts.keys().cloned().chain(["other".to_owned()]).collect(),
        }
    }

    /// PSI over all cells, nulls being one, rare ones pooled; `None` when either side has no rows or `current`
    /// was not counted against this reference.
    #[must_use]
    pub fn psi(&self, current: &Counts) -> Option<f64> {
        self.drift(current).map(|drift| drift.psi)
    }

    /// KS distance over the values that are there; `None` for categories, and where either side has none.
    #[must_use]
    pub fn ks(&self, current: &Counts) -> Option<f64> {
        match self {
            Self::Numeric { counts, .. } if counts.len() == current.cells.len() => ks(counts, &current.cells),
            _ => None,
        }
    }

    /// p-value of chi-square homogeneity over all cells, nulls being one, rare ones pooled; `None` as for
    /// [`ColumnReference::psi`].
    #[must_use]
    pub fn chi2_p(&self, current: &Counts) -> Option<f64> {
        self.drift(current).map(|drift| drift.p)
    }

    /// Every figure of a window against this reference; `None` as for [`ColumnReference::psi`].
    #[must_use]
    pub fn drift(&self, current: &Counts) -> Option<ColumnDrift> {
        let own = self.counts();
        if own.cells.len() != current.cells.len() {
            return None;
        }
        let (reference, now) = (own.with_nulls(), current.with_nulls());
        let (p, psi) = pooled_p_and_psi(&reference, &now)?;
        let total_variation = total_variation(&reference, &now)?;
        let share = |counts: &Counts| counts.nulls as f64 / counts.rows() as f64;
        let null_shift = share(current) - share(&own);
        let ks = self.ks(current);
        let effect = match self {
            Self::Numeric { .. } => ks.unwrap_or(0.0).max(null_shift.abs()),
            Self::Categorical { .. } => (total_variation - total_variation_noise(&reference, &now)?).max(0.0),
        };
        Some(ColumnDrift { rows: current.rows(), psi, ks, total_variation, null_shift, p, effect })
    }

    fn no_rows(&self) -> Counts {
        let cells = match self {
            Self::Numeric { edges, .. } => edges.len() + 1,
            Self::Categorical { counts, .. } => counts.len() + 1,
        };
        Counts { cells: vec![0; cells], nulls: 0 }
    }
}

/// Inner edges of at most `bins` cells over ascending values.
fn edges(sorted: &[f64], bins: usize) -> Vec<f64> {
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
        return Vec::new();
    };
    // A cell below, one per value, one above: two cells more than values.
    let different: Vec<f64> = sorted.chunk_by(|a, b| a == b).map(|same| same[0]).take(bins - 1).collect();
    if different.len() <= bins - 2 {
        return [least.next_down()].into_iter().chain(different).filter(|edge| edge.is_finite()).collect();
    }
    let mut edges: Vec<f64> =
        (1..bins).map(|part| sorted[(part * sorted.len()).div_ceil(bins) - 1]).filter(|edge| edge < most).collect();
    edges.retain(|edge| edge.is_finite());
    edges.dedup();
    edges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{DriftGate, Verdict, drift_verdict};

    fn some(values: impl IntoIterator<Item = f64>) -> Vec<Option<f64>> {
        values.into_iter().map(Some).collect()
    }

    /// Draws from a bell-like shape (sum of four uniforms) moved by `shift`, the share `nulls` of them missing.
    fn window(rows: usize, shift: f64, nulls: f64, seed: u64) -> Vec<Option<f64>> {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut unit = || f64::from(chance.next_u32()) / f64::from(u32::MAX);
        (0..rows)
            .map(|_| {
                let value = (0..4).map(|_| unit()).sum::<f64>() + shift;
                (unit() >= nulls).then_some(value)
            })
            .collect()
    }

    fn verdict(reference: &ColumnReference, current: &Counts) -> Verdict {
        drift_verdict(reference.drift(current).as_ref(), 10, &DriftGate::default())
    }

    #[test]
    fn the_file_reads_and_writes_as_agreed() {
        let text = concat!(
            r#"{"columns":{"carrier":{"kind":"categorical","counts":{"AA":3,"UA":5},"other":1,"nulls":2},"#,
            r#""distance":{"kind":"numeric","edges":[100.5,200.0],"counts":[4,5,6],"nulls":1}},"#,
            r#""prediction":{"kind":"numeric","edges":[],"counts":[7],"nulls":0},"#,
            r#""importance":{"carrier":0.01,"distance":0.0},"#,
            r#""holdout":{"rows":7,"log_loss":0.5,"auc":null,"brier":0.2,"rate":0.25}}"#,
        );
        let parsed: Reference = serde_json::from_str(text).expect("lawful");
        assert_eq!(serde_json::to_string(&parsed).expect("writes"), text);
        assert_eq!(parsed.columns["carrier"].counts().cells, [3, 5, 1]);
        assert_eq!(parsed.columns["carrier"].cell_names(), ["AA", "UA", "other"]);
        assert_eq!(parsed.columns["distance"].cell_names(), ["up to 100.5", "100.5 to 200", "above 200"]);
    }

    #[test]
    fn many_values_are_cut_at_their_quantiles() {
        let values = some((1..=100).rev().map(f64::from));
        let ColumnReference::Numeric { edges, counts, nulls } = ColumnReference::fit_numeric(&values, 4) else {
            panic!("numeric")
        };
        assert_eq!((edges, counts, nulls), (vec![25.0, 50.0, 75.0], vec![25, 25, 25, 25], 0));
        let twenty = ColumnReference::fit_numeric(&values, 500);
        assert_eq!(twenty.counts().cells, vec![5; 20]);
    }

    #[test]
    fn few_values_get_a_cell_each_and_one_on_either_side() {
        let values = [Some(0.0), Some(1.0), None, Some(1.0), Some(f64::NAN)];
        let reference = ColumnReference::fit_numeric(&values, BINS);
        assert_eq!(reference.counts(), Counts { cells: vec![0, 1, 2, 0], nulls: 2 });
        let current = reference.count_numeric(&some([-1.0, 0.0, 0.5, 1.0, 7.0]));
        assert_eq!(current.cells, [1, 1, 2, 1]);
    }

    #[test]
    fn nothing_at_all_is_fitted_too() {
        let reference = ColumnReference::fit_numeric(&[None, None], BINS);
        assert_eq!(reference.counts(), Counts { cells: vec![0], nulls: 2 });
        let empty = ColumnReference::fit_numeric(&[], BINS);
        let current = empty.count_numeric(&some([1.0]));
        assert_eq!((empty.drift(&current), verdict(&empty, &current)), (None, Verdict::InsufficientData));
        assert_eq!(verdict(&reference, &reference.count_numeric(&[])), Verdict::InsufficientData);
    }

    #[test]
    fn the_most_frequent_categories_keep_their_names() {
        let values: Vec<Option<&str>> = "b a b c d c".split(' ').map(Some).chain([None]).collect();
        let reference = ColumnReference::fit_categorical(&values, 3);
        let names = BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 2)]);
        assert_eq!(reference, ColumnReference::Categorical { counts: names, other: 1, nulls: 1 });
        let current = reference.count_categorical(&[Some("d"), Some("zebra"), Some("b"), None]);
        assert_eq!(current, Counts { cells: vec![0, 1, 0, 2], nulls: 1 });
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_counted_and_never_panics() {
        let number = ColumnReference::fit_numeric(&some([1.0, 2.0]), BINS);
        assert_eq!(number.count_categorical(&[Some("x"), None]).nulls, 2);
        let category = ColumnReference::fit_categorical(&[Some("x")], TOP);
        assert_eq!(category.count_numeric(&[Some(3.0), None]), Counts { cells: vec![0, 1], nulls: 1 });
        assert_eq!(category.drift(&number.counts()), None, "other cells than this reference's");
    }

    #[test]
    fn a_quiet_window_is_stable_and_a_moved_one_drifted() {
        let reference = ColumnReference::fit_numeric(&window(10_000, 0.0, 0.02, 1), BINS);
        let quiet = reference.count_numeric(&window(500, 0.0, 0.02, 2));
        assert_eq!(verdict(&reference, &quiet), Verdict::Stable);
        let moved = reference.count_numeric(&window(500, 0.4, 0.02, 3));
        assert_eq!(verdict(&reference, &moved), Verdict::Drifted);
        let (quiet, moved) = (reference.drift(&quiet).expect("rows"), reference.drift(&moved).expect("rows"));
        assert!(moved.psi > 0.2 && quiet.psi < 0.1, "{quiet:?} {moved:?}");
        assert!(moved.ks.expect("values") > 0.2 && moved.p < 1e-6 && quiet.p > 1e-3, "{quiet:?} {moved:?}");
        let few = reference.count_numeric(&window(150, 2.0, 0.0, 4));
        assert_eq!(verdict(&reference, &few), Verdict::InsufficientData);
    }

    #[test]
    fn nulls_that_appear_are_drift_though_the_values_stand_still() {
        let reference = ColumnReference::fit_numeric(&window(10_000, 0.0, 0.0, 1), BINS);
        let current = reference.count_numeric(&window(500, 0.0, 0.2, 2));
        let drift = reference.drift(&current).expect("rows");
        assert!(drift.ks.expect("values") < 0.1 && (0.15..0.25).contains(&drift.null_shift), "{drift:?}");
        assert_eq!(verdict(&reference, &current), Verdict::Drifted);
    }

    #[test]
    fn a_constant_that_changes_and_a_category_never_seen_are_drift() {
        let constant = ColumnReference::fit_numeric(&some([3.0; 1_000]), BINS);
        assert_eq!(verdict(&constant, &constant.count_numeric(&some([3.0; 500]))), Verdict::Stable);
        assert_eq!(verdict(&constant, &constant.count_numeric(&some([3.5; 500]))), Verdict::Drifted);
        let category = ColumnReference::fit_categorical(&[Some("x"); 1_000], TOP);
        let mixed: Vec<_> = (0..500).map(|n| Some(if n % 4 == 0 { "new" } else { "x" })).collect();
        assert_eq!(verdict(&category, &category.count_categorical(&mixed)), Verdict::Drifted);
        assert_eq!(verdict(&category, &category.count_categorical(&[Some("x"); 500])), Verdict::Stable);
    }

    #[test]
    fn quiet_windows_raise_few_false_alarms() {
        let columns: Vec<_> =
            (0..10).map(|column| ColumnReference::fit_numeric(&window(1_000, 0.0, 0.01, column), BINS)).collect();
        let alarms = (0..200u64)
            .filter(|round| {
                columns.iter().zip(0u64..).any(|(reference, column)| {
                    let current = window(500, 0.0, 0.01, 1_000 + round * 10 + column);
                    verdict(reference, &reference.count_numeric(&current)) == Verdict::Drifted
                })
            })
            .count();
        // The notes measured 10 per 1,000 for two gates at these sizes and 344 for uncorrected tests.
        assert!(alarms <= 6, "{alarms} of 200");
    }

    #[test]
    #[should_panic(expected = "counted against the same reference")]
    fn counts_of_different_references_do_not_merge() {
        Counts { cells: vec![1, 2], nulls: 0 }.merge(&Counts { cells: vec![1], nulls: 0 });
    }

    /// Small whole numbers with nulls between them, so that ties and empty cells are frequent.
    fn column() -> impl Strategy<Value = Vec<Option<f64>>> {
        prop::collection::vec(prop::option::weighted(0.9, (-40i8..40).prop_map(f64::from)), 0..200)
    }

    proptest! {
        #![proptest_config(crate::testing::fixed())]

        #[test]
        fn every_value_falls_into_the_cell_between_its_edges(values in column(), bins in 2usize..=20) {
            let fitted = ColumnReference::fit_numeric(&values, bins);
            let ColumnReference::Numeric { edges, counts, nulls } = &fitted else { panic!("numeric") };
            prop_assert!(edges.len() < bins && edges.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(*nulls, values.iter().filter(|value| value.is_none()).count() as u64);
            for (cell, count) in counts.iter().enumerate() {
                let above = |value: f64| cell == 0 || value > edges[cell - 1];
                let within = |value: f64| cell == edges.len() || value <= edges[cell];
                let naive = values.iter().flatten().filter(|value| above(**value) && within(**value)).count() as u64;
                prop_assert_eq!(*count, naive);
            }
        }

        #[test]
        fn parts_of_a_window_merge_into_the_whole(reference in column(), now in column(), cut in 0usize..200) {
            let fitted = ColumnReference::fit_numeric(&reference, BINS);
            let cut = cut.min(now.len());
            let mut merged = Counts::default();
            merged.merge(&fitted.count_numeric(&now[..cut]));
            merged.merge(&fitted.count_numeric(&now[cut..]));
            prop_assert_eq!(&merged, &fitted.count_numeric(&now));
            prop_assert_eq!(merged.rows(), now.len() as u64);
            if let Some(drift) = fitted.drift(&merged) {
                prop_assert!(drift.psi.is_finite() && (0.0..=1.0).contains(&drift.p));
                prop_assert!((0.0..=1.0 + 1e-12).contains(&drift.effect));
            }
        }

        #[test]
        fn binned_ks_never_exceeds_that_of_the_raw_values(reference in column(), now in column()) {
            let fitted = ColumnReference::fit_numeric(&reference, BINS);
            let (Some(binned), Some(raw)) = (fitted.ks(&fitted.count_numeric(&now)), raw_ks(&reference, &now)) else {
                return Ok(());
            };
            prop_assert!(binned <= raw + 1e-12, "{} {}", binned, raw);
        }

        #[test]
        fn a_reference_survives_its_file(values in prop::collection::vec(prop::option::of(any::<f64>()), 0..100)) {
            let fitted = ColumnReference::fit_numeric(&values, BINS);
            let text = serde_json::to_string(&fitted).expect("writes");
            prop_assert_eq!(serde_json::from_str::<ColumnReference>(&text).expect("reads"), fitted);
        }
    }

    /// The largest difference of the two empirical distributions, tried at every value.
    fn raw_ks(reference: &[Option<f64>], now: &[Option<f64>]) -> Option<f64> {
        let share = |of: &[Option<f64>], at: f64| {
            let values: Vec<f64> = of.iter().flatten().copied().collect();
            values.iter().filter(|value| **value <= at).count() as f64 / values.len() as f64
        };
        reference
            .iter()
            .chain(now)
            .flatten()
            .map(|at| (share(reference, *at) - share(now, *at)).abs())
            .max_by(f64::total_cmp)
    }
}
