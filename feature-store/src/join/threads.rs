//! Work spread over a few threads that live as long as the call.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// Does `work` for every number below `items`, each once, on up to `threads` threads; each thread begins with `start`
/// and finishes with `end`. After an error no new item begins; one of the errors is returned.
pub(super) fn spread<S, E: Send>(
    threads: usize,
    items: usize,
    start: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), E> + Sync,
    end: impl Fn(S) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let toil = || -> Result<(), E> {
        let mut state = start();
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= items || failed.load(Ordering::Relaxed) {
                return end(state);
            }
            if let Err(error) = work(&mut state, item) {
                failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    let threads = threads.clamp(1, items.max(1));
    if threads == 1 {
        return toil();
    }
    let first = Mutex::new(Ok(()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = toil() {
                    *first.lock().unwrap_or_else(PoisonError::into_inner) = Err(error);
                }
            });
        }
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The results of `work` for every number below `items`, in order.
pub(super) fn map<T: Send, E: Send>(
    threads: usize,
    items: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let done = Mutex::new(Vec::with_capacity(items));
    spread(
        threads,
        items,
        || (),
        |(), item| {
            let result = work(item)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((item, result));
            Ok(())
        },
        |()| Ok(()),
    )?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(item, _)| *item);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_results_keep_their_order() {
        for threads in [1, 3, 64] {
            let squares = map(threads, 100, |n| Ok::<_, ()>(n * n)).unwrap();
            assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let done = AtomicUsize::new(0);
        let work = |n: usize| {
            done.fetch_add(1, Ordering::Relaxed);
            if n == 3 { Err("three") } else { Ok(()) }
        };
        assert_eq!(map(2, 1_000_000, work), Err("three"));
        assert!(done.load(Ordering::Relaxed) < 1_000_000);
    }
}
