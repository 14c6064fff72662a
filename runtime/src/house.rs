//! Named tasks that end together: nothing is left running, and whoever is late is named.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Where tasks live. Clones share it.
///
/// Every task is told to stop through its own token and decides itself when it is safe to return; none is
/// ever aborted in the middle of a write.
#[derive(Debug, Clone, Default)]
pub struct House(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stop: CancellationToken,
    tasks: TaskTracker,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    arrived: u64,
    names: BTreeMap<u64, &'static str>,
}

impl House {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task called `name`. `work` gets a token that is cancelled when the house shuts down; a task
    /// started after that finds it cancelled already. A panic ends the task and is logged with its name.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let seat = self.seat(name);
        let work = work(self.0.stop.child_token());
        let task = async move {
            let _seat = seat;
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                tracing::error!(task = name, reason = crate::cpu::panic_message(&*panic), "task panicked");
            }
        };
        self.0.tasks.spawn(task.instrument(tracing::info_span!("task", name)));
    }

    /// Cancelled as soon as a shutdown begins.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.0.stop.clone()
    }

    /// Names of the tasks that run now, in the order they were started.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        self.present(|present| present.names.values().copied().collect())
    }

    /// Tells every task to stop and waits for them, at most `deadline`. Returns the names of those still
    /// running then, in the order they were started; empty when all are home. May be called again.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<&'static str> {
        self.0.stop.cancel();
        self.0.tasks.close();
        match tokio::time::timeout(deadline, self.0.tasks.wait()).await {
            Ok(()) => Vec::new(),
            Err(_) => self.running(),
        }
    }

    fn seat(&self, name: &'static str) -> Seat {
        let number = self.present(|present| {
            present.arrived += 1;
            present.names.insert(present.arrived, name);
            present.arrived
        });
        Seat { house: self.clone(), number }
    }

    fn present<T>(&self, act: impl FnOnce(&mut Present) -> T) -> T {
        // Nothing under this lock can panic half-way, so a poisoned lock still holds good data.
        act(&mut self.0.present.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes the name off the list when the task ends, however it ends.
struct Seat {
    house: House,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.house.present(|present| present.names.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_to_put_their_things_away() {
        let house = House::new();
        let (put_away, done) = oneshot::channel();
        house.spawn("flusher", |stop| async move {
            stop.cancelled().await;
            let _ = put_away.send(());
        });
        assert_eq!(house.running(), ["flusher"]);
        assert!(house.shutdown(Duration::from_secs(5)).await.is_empty());
        done.await.expect("the task ran its last line");
        assert!(house.running().is_empty());
    }

    #[tokio::test]
    async fn shutdown_names_who_is_late() {
        let house = House::new();
        house.spawn("deaf", |_| std::future::pending());
        house.spawn("good", |stop| async move { stop.cancelled().await });
        house.spawn("deaf too", |_| std::future::pending());
        assert_eq!(house.shutdown(Duration::from_millis(50)).await, ["deaf", "deaf too"]);
    }

    #[tokio::test]
    async fn a_panicking_task_takes_nobody_with_it() {
        let house = House::new();
        house.spawn("clumsy", |_| async { panic!("dropped it") });
        house.spawn("good", |stop| async move { stop.cancelled().await });
        assert!(house.shutdown(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn a_task_that_comes_too_late_is_told_at_once() {
        let house = House::new();
        assert!(!house.stopping().is_cancelled());
        house.shutdown(Duration::ZERO).await;
        assert!(house.stopping().is_cancelled());
        let (tell, told) = oneshot::channel();
        house.spawn("late", |stop| async move {
            let _ = tell.send(stop.is_cancelled());
        });
        assert!(told.await.expect("the task ran"));
    }
}
