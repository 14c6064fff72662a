//! The threads that compute, and the bounded lanes in which rows wait for them.
//!
//! Each loaded version has one lane. A free thread takes the lane that has waited longest and drains it up to
//! the batch limit, so batches grow by themselves while earlier ones compute and nothing ever waits for a timer.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use backends::Backend;
use domain::{Frame, ModelRef};
use runtime::metrics::Gauge;
use tokio::sync::oneshot;

use crate::{ServingError, batch};

/// The scores of one job and where its time went.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) scores: Vec<f32>,
    pub(crate) queued: Duration,
    /// Of the whole batch the job was part of.
    pub(crate) inferred: Duration,
}

/// Where an answer will arrive; dropping it withdraws the job.
pub(crate) type Pending = oneshot::Receiver<Result<Answer, ServingError>>;

/// Rows in the shape of their lane's model, all of one caller.
struct Job {
    rows: Frame,
    reply: oneshot::Sender<Result<Answer, ServingError>>,
    deadline: Option<Instant>,
    since: Instant,
}

/// The queue of one model version.
pub(crate) struct Lane {
    version: ModelRef,
    backend: Arc<dyn Backend>,
    queue: Mutex<Queue>,
    /// Rows waiting; written under the lock, read without.
    waiting: AtomicUsize,
    limit: usize,
    depth: Arc<Gauge>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Whether the lane stands in the pool's list or is held by a thread that will put it back.
    listed: bool,
}

/// A fixed number of threads over any number of lanes.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    max_batch_rows: usize,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Lane>>,
    stopped: bool,
}

/// Nothing under these locks panics half-way, so a poisoned one still holds good data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lane {
    /// A lane that holds at most `limit` waiting rows and shows them on `depth`.
    pub(crate) fn new(version: ModelRef, backend: Arc<dyn Backend>, limit: usize, depth: Arc<Gauge>) -> Arc<Self> {
        let queue = Mutex::default();
        Arc::new(Self { version, backend, queue, waiting: AtomicUsize::new(0), limit, depth })
    }

    /// Rows waiting now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes how many rows wait; the queue's lock is held.
    #[expect(clippy::cast_precision_loss, reason = "a queue is far below 2^52 rows")]
    fn show(&self, waiting: usize) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.depth.set(waiting as f64);
    }

    /// Takes jobs off the front while they fit in `max_rows`; the first always does. True when more are left.
    fn drain(&self, max_rows: usize) -> (Vec<Job>, bool) {
        let mut queue = lock(&self.queue);
        let mut jobs = Vec::new();
        let mut rows = 0;
        while let Some(next) = queue.jobs.front() {
            rows += next.rows.rows();
            if rows > max_rows && !jobs.is_empty() {
                break;
            }
            jobs.extend(queue.jobs.pop_front());
        }
        queue.listed = !queue.jobs.is_empty();
        let taken: usize = jobs.iter().map(|job: &Job| job.rows.rows()).sum();
        self.show(self.waiting() - taken);
        (jobs, queue.listed)
    }

    /// Answers jobs as one batch: those whose caller is gone are dropped, those past their deadline told so.
    fn answer(&self, jobs: Vec<Job>) {
        let start = Instant::now();
        let mut batch = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.reply.is_closed() {
                continue;
            }
            if job.deadline.is_some_and(|deadline| deadline <= start) {
                let _ = job.reply.send(Err(ServingError::DeadlineExceeded { doing: "while waiting for a worker" }));
                continue;
            }
            batch.push(job);
        }
        if batch.is_empty() {
            return;
        }
        let whole = batch::concat(batch.iter().map(|job| &job.rows));
        let result = self.compute(&whole);
        let inferred = start.elapsed();
        match result {
            Ok(scores) => {
                let mut rest = &scores[..];
                for job in batch {
                    let (own, others) = rest.split_at(job.rows.rows());
                    rest = others;
                    job.reply_with(Ok(own.to_vec()), start, inferred);
                }
            }
            Err(error) if batch.len() == 1 => {
                for job in batch {
                    job.reply_with(Err(error.clone()), start, inferred);
                }
            }
            // One caller's rows must not fail another's: each is answered by itself.
            Err(_) => {
                for job in batch {
                    let start = Instant::now();
                    let result = self.compute(&job.rows);
                    job.reply_with(result, start, start.elapsed());
                }
            }
        }
    }

    /// One finite score per row, or why not; a panic of the model ends here.
    fn compute(&self, rows: &Frame) -> Result<Vec<f32>, ServingError> {
        compute(&self.version, &*self.backend, rows)
    }
}

/// Runs a model on the calling thread: one finite score per row, or why not.
pub(crate) fn compute(version: &ModelRef, backend: &dyn Backend, rows: &Frame) -> Result<Vec<f32>, ServingError> {
    let scores = match catch_unwind(AssertUnwindSafe(|| backend.predict(rows))) {
        Ok(Ok(scores)) => scores,
        Ok(Err(source)) => {
            return Err(ServingError::Model { version: version.clone(), doing: "run", source: Arc::new(source) });
        }
        Err(panic) => {
            return Err(ServingError::Panicked { version: version.clone(), message: words(&*panic).to_owned() });
        }
    };
    let problem = if scores.len() != rows.rows() {
        format!("{} scores for {} rows", scores.len(), rows.rows())
    } else if let Some(row) = scores.iter().position(|score| !score.is_finite()) {
        format!("{} as the score of row {row}", scores[row])
    } else {
        return Ok(scores);
    };
    Err(ServingError::BadScores { version: version.clone(), problem })
}

/// The words of a panic, as far as it had any.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl Job {
    fn reply_with(self, scores: Result<Vec<f32>, ServingError>, start: Instant, inferred: Duration) {
        let queued = start.saturating_duration_since(self.since);
        // The caller may have left meanwhile; then nobody is to be told.
        let _ = self.reply.send(scores.map(|scores| Answer { scores, queued, inferred }));
    }
}

impl Pool {
    /// Starts `threads` threads (0: one per core), named `serve-0` and up.
    ///
    /// # Panics
    /// When the operating system refuses to start a thread.
    pub(crate) fn start(threads: usize, max_batch_rows: usize) -> Self {
        let threads = if threads == 0 { thread::available_parallelism().map_or(1, usize::from) } else { threads };
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), max_batch_rows });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            let body = move || {
                while let Some((lane, jobs)) = shared.next() {
                    lane.answer(jobs);
                }
            };
            let thread = thread::Builder::new().name(format!("serve-{number}")).spawn(body);
            thread.expect("the operating system starts a thread")
        };
        let threads = (0..threads).map(start).collect();
        Self { shared, threads: Mutex::new(threads) }
    }

    /// Queues rows, all or none of which wait for a thread.
    pub(crate) fn submit(
        &self,
        lane: &Arc<Lane>,
        rows: Frame,
        deadline: Option<Instant>,
    ) -> Result<Pending, ServingError> {
        let (reply, pending) = oneshot::channel();
        let size = rows.rows();
        let newly_listed = {
            let mut queue = lock(&lane.queue);
            let waiting = lane.waiting();
            if waiting + size > lane.limit {
                return Err(ServingError::Overloaded { what: "the queue of the model version" });
            }
            lane.show(waiting + size);
            queue.jobs.push_back(Job { rows, reply, deadline, since: Instant::now() });
            !std::mem::replace(&mut queue.listed, true)
        };
        if newly_listed && !self.shared.list(lane) {
            // No thread will ever come for this lane again.
            lane.drain(usize::MAX);
            return Err(ServingError::Stopping);
        }
        Ok(pending)
    }

    /// Works off what is queued, then ends the threads and waits for them. Blocks; may be called again.
    pub(crate) fn stop(&self) {
        self.shared.stop();
        for thread in lock(&self.threads).drain(..) {
            // A worker catches the panics of models; whatever else ended it is already over.
            let _ = thread.join();
        }
    }
}

impl Drop for Pool {
    /// Nobody can submit any more: the threads end by themselves.
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn stop(&self) {
        lock(&self.state).stopped = true;
        self.work.notify_all();
    }

    /// Puts a lane at the end of the line; false when the pool has stopped.
    fn list(&self, lane: &Arc<Lane>) -> bool {
        let mut state = lock(&self.state);
        if state.stopped {
            return false;
        }
        state.ready.push_back(Arc::clone(lane));
        drop(state);
        self.work.notify_one();
        true
    }

    /// Waits for the next batch; `None` when the pool has stopped and nothing is left.
    fn next(&self) -> Option<(Arc<Lane>, Vec<Job>)> {
        let mut state = lock(&self.state);
        loop {
            if let Some(lane) = state.ready.pop_front() {
                let (jobs, more) = lane.drain(self.max_batch_rows);
                if more {
                    state.ready.push_back(Arc::clone(&lane));
                    self.work.notify_one();
                }
                return Some((lane, jobs));
            }
            if state.stopped {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use backends::BackendError;
    use domain::{Column, Signature};

    use super::*;

    /// Answers `x`, and is told batch by batch when it may.
    struct Held {
        signature: Signature,
        go: Mutex<std::sync::mpsc::Receiver<()>>,
        began: std::sync::mpsc::Sender<usize>,
    }

    impl Backend for Held {
        fn signature(&self) -> &Signature {
            &self.signature
        }

        fn predict(&self, rows: &Frame) -> Result<Vec<f32>, BackendError> {
            let _ = self.began.send(rows.rows());
            let _ = lock(&self.go).recv();
            let floats = rows.require("x")?.to_floats().unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
            Ok(floats.into_iter().map(|x| x.unwrap_or(0.0) as f32).collect())
        }
    }

    fn rows(values: impl IntoIterator<Item = f64>) -> Frame {
        Frame::new([("x".into(), Column::Float(values.into_iter().map(Some).collect()))]).unwrap()
    }

    #[test]
    fn a_batch_holds_what_waited_skips_who_left_and_tells_who_is_late() {
        let (release, go) = std::sync::mpsc::channel();
        let (began, batches) = std::sync::mpsc::channel();
        let backend = Arc::new(Held { signature: Signature::default(), go: Mutex::new(go), began });
        let lane = Lane::new("m/1".parse().unwrap(), backend, 20, Arc::default());
        let pool = Pool::start(1, 4);
        let first = pool.submit(&lane, rows([1.0]), None).unwrap();
        assert_eq!(batches.recv(), Ok(1), "a lone job does not wait for others");

        let second = pool.submit(&lane, rows([2.0, 3.0]), None).unwrap();
        let late = pool.submit(&lane, rows([9.0]), Some(Instant::now())).unwrap();
        let third = pool.submit(&lane, rows([4.0]), None).unwrap();
        drop(pool.submit(&lane, rows([5.0; 4]), None).unwrap());
        let fourth = pool.submit(&lane, rows([6.0; 7]), None).unwrap();
        assert_eq!(lane.waiting(), 15);
        assert!(matches!(pool.submit(&lane, rows([7.0; 6]), None), Err(ServingError::Overloaded { .. })));
        assert_eq!(lane.waiting(), 15, "a refused job leaves nothing behind");

        for _ in 0..3 {
            release.send(()).unwrap();
        }
        let scores = |pending: Pending| pending.blocking_recv().unwrap().map(|answer| answer.scores);
        assert_eq!(scores(first).unwrap(), [1.0]);
        assert_eq!(scores(second).unwrap(), [2.0, 3.0]);
        assert_eq!(scores(third).unwrap(), [4.0]);
        assert_eq!(scores(fourth).unwrap(), [6.0; 7]);
        assert!(matches!(scores(late), Err(ServingError::DeadlineExceeded { .. })));
        drop(release);
        pool.stop();
        assert_eq!(batches.try_iter().collect::<Vec<_>>(), [3, 7], "the late and the withdrawn were never computed");
        assert_eq!(lane.waiting(), 0);
    }

    #[test]
    fn a_stopped_pool_answers_what_it_took_and_takes_no_more() {
        let (release, go) = std::sync::mpsc::channel();
        let (began, _batches) = std::sync::mpsc::channel();
        let backend = Arc::new(Held { signature: Signature::default(), go: Mutex::new(go), began });
        let lane = Lane::new("m/1".parse().unwrap(), backend, 20, Arc::default());
        let pool = Pool::start(1, 4);
        let taken: Vec<_> = (0..5).map(|_| pool.submit(&lane, rows([1.0; 4]), None).unwrap()).collect();
        drop(release);
        pool.stop();
        for pending in taken {
            assert_eq!(pending.blocking_recv().unwrap().unwrap().scores, [1.0; 4]);
        }
        assert!(matches!(pool.submit(&lane, rows([1.0]), None), Err(ServingError::Stopping)));
    }
}
