//! The pool that computes: async code waits here while threads of our own do the work.

use std::{
    any::Any,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use domain::{Coded, ErrorCode};
use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait per thread; beyond that `Cpu::run` itself waits for room.
const QUEUE_PER_THREAD: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Why a job gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CpuError {
    /// The job panicked; the thread survives. Holds the panic's message.
    #[error("a computation panicked: {0}")]
    Panicked(String),
    /// The pool was stopped before the job could start.
    #[error("the computing pool has stopped")]
    Stopped,
}

impl Coded for CpuError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Panicked(_) => ErrorCode::Internal,
            Self::Stopped => ErrorCode::Unavailable,
        }
    }
}

/// A fixed number of threads behind one bounded queue. Clones share it; the threads end when the last
/// clone is gone and the queue is empty.
#[derive(Debug, Clone)]
pub struct Cpu(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Mutex<Option<mpsc::Sender<Job>>>,
    threads: usize,
}

impl Cpu {
    /// Starts `threads` threads, named `cpu-0` and up; 0 means one per core.
    ///
    /// # Panics
    /// When the operating system refuses to start a thread.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let threads = if threads == 0 { cores() } else { threads };
        let (queue, jobs) = mpsc::channel(threads * QUEUE_PER_THREAD);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("cpu-{number}"))
                .spawn(move || work_off(&jobs))
                .expect("the operating system starts a thread");
        }
        Self(Arc::new(Inner { queue: Mutex::new(Some(queue)), threads }))
    }

    /// How many threads compute.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Runs `work` on a thread of the pool, inside the caller's tracing span. Waits for room while the queue
    /// is full. When the caller goes away first, work that has not started is skipped.
    ///
    /// # Errors
    /// `Panicked` when the work did, `Stopped` after [`Cpu::stop`].
    pub async fn run<T, F>(&self, work: F) -> Result<T, CpuError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let queue = self.queue(|queue| queue.clone()).ok_or(CpuError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let span = tracing::Span::current();
        let job: Job = Box::new(move || {
            if reply.is_closed() {
                return;
            }
            let result = span.in_scope(|| catch_unwind(AssertUnwindSafe(work)));
            let _ = reply.send(result.map_err(|panic| CpuError::Panicked(panic_message(&*panic).to_owned())));
        });
        queue.send(job).await.map_err(|_| CpuError::Stopped)?;
        // A stopped pool still works off its queue, so the sender is always honoured; a vanished one says the same.
        drop(queue);
        answer.await.map_err(|_| CpuError::Stopped)?
    }

    /// Takes no more jobs; those already queued are finished.
    pub fn stop(&self) {
        self.queue(Option::take);
    }

    fn queue<R>(&self, act: impl FnOnce(&mut Option<mpsc::Sender<Job>>) -> R) -> R {
        act(&mut self.0.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// One thread's life: take a job, do it, until the queue is closed and empty.
fn work_off(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: one thread waits for a job, the others for their turn to wait.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match next {
            Some(job) => job(),
            None => return,
        }
    }
}

/// The words of a panic, as far as it had any.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn work_runs_on_a_named_thread_of_the_pool() {
        let cpu = Cpu::new(1);
        let name = cpu.run(|| thread::current().name().map(str::to_owned)).await;
        assert_eq!(name, Ok(Some("cpu-0".to_owned())));
    }

    #[tokio::test]
    async fn a_panic_comes_back_as_an_error_and_the_thread_goes_on() {
        let cpu = Cpu::new(1);
        let broken = cpu.run(|| -> u8 { panic!("row {} is odd", 3) }).await;
        assert_eq!(broken, Err(CpuError::Panicked("row 3 is odd".to_owned())));
        assert_eq!(cpu.run(|| 2 + 2).await, Ok(4));
    }

    #[tokio::test]
    async fn a_stopped_pool_refuses_new_work() {
        let cpu = Cpu::new(2);
        cpu.clone().stop();
        assert_eq!(cpu.run(|| 1).await, Err(CpuError::Stopped));
    }

    #[tokio::test]
    async fn more_jobs_than_the_queue_holds_all_get_done() {
        let cpu = Cpu::new(3);
        assert_eq!(cpu.threads(), 3);
        let answers = futures::future::join_all((0..200u64).map(|n| cpu.run(move || n * n))).await;
        assert!(answers.into_iter().eq((0..200u64).map(|n| Ok(n * n))));
    }

    #[tokio::test]
    async fn work_nobody_waits_for_is_skipped() {
        static RAN: AtomicBool = AtomicBool::new(false);
        let cpu = Cpu::new(1);
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(cpu.run(move || gate.recv()));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let mut given_up = Box::pin(cpu.run(|| RAN.store(true, Ordering::SeqCst)));
        assert!(futures::poll!(given_up.as_mut()).is_pending());
        drop(given_up);
        drop(open);
        first.await.expect("the first job ran").expect_err("its gate was closed");
        cpu.run(|| ()).await.expect("the queue is worked off in order");
        assert!(!RAN.load(Ordering::SeqCst));
    }
}
