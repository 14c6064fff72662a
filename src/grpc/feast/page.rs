//! What listings have in common.

use std::collections::HashMap;

use proto::feast::registry::{PaginationMetadata, PaginationParams};

/// Whether an object has all the tags that are asked for.
#[must_use]
pub fn tagged(has: &HashMap<String, String>, asked: &HashMap<String, String>) -> bool {
    asked.iter().all(|(name, value)| has.get(name) == Some(value))
}

/// The page that is asked for and what stands around it; everything where no limit is named.
pub fn page<T>(all: Vec<T>, asked: Option<&PaginationParams>) -> (Vec<T>, Option<PaginationMetadata>) {
    let limit = asked.map_or(0, |asked| asked.limit);
    let Some(size) = usize::try_from(limit).ok().filter(|size| *size > 0) else { return (all, None) };
    let number = asked.map_or(1, |asked| asked.page.max(1));
    let total = all.len();
    let first = usize::try_from(number - 1).unwrap_or(0).saturating_mul(size);
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let around = PaginationMetadata {
        page: number,
        limit,
        total_count: count(total),
        total_pages: count(total.div_ceil(size)),
        has_next: first.saturating_add(size) < total,
        has_previous: number > 1,
    };
    (all.into_iter().skip(first).take(size).collect(), Some(around))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_together_are_the_whole() {
        let ask = |page, limit| super::page((1..=5).collect(), Some(&PaginationParams { page, limit }));
        let pages: Vec<i32> = (1..=3).flat_map(|number| ask(number, 2).0).collect();
        assert_eq!(pages, [1, 2, 3, 4, 5]);
        let (last, around) = ask(3, 2);
        let around = around.unwrap();
        assert_eq!((last, around.total_pages, around.has_next, around.has_previous), (vec![5], 3, false, true));
        assert_eq!(ask(i32::MAX, i32::MAX).0, [] as [i32; 0]);
        assert_eq!(ask(0, 0).0.len(), 5, "without a limit there are no pages");
    }

    #[test]
    fn tags_are_all_there() {
        let tags = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(tagged(&tags(&[("a", "1"), ("b", "2")]), &tags(&[("b", "2")])));
        assert!(!tagged(&tags(&[("a", "1")]), &tags(&[("a", "2")])));
    }
}
