//! Sends prepared requests in a closed loop, for capacity, or an open one, for latency.
//!
//! In a closed loop, as fast as answers come, for capacity; in an open loop, at a fixed rate of arrivals,
//! for latency. In the open loop a request's latency counts from when it was due, not from when a
//! connection was free to send it: a proxy that stalls is charged for everybody who had to wait
//! (coordinated omission).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::connection::{Answer, Connection, Target};
use crate::job::{Job, Prepared};
use crate::merchant::Call;
use crate::numbers::{fine_micros, micros, real};
use crate::outcome::{Charge, Done};
use crate::process::{Process, Usage};

/// Failures that are told in words; the others are counted.
const FAILURES_TOLD: usize = 5;

/// What a window showed.
pub struct Window {
    /// How long it was.
    pub elapsed: Duration,
    /// Jobs that were done, from the first on.
    pub done: usize,
    /// Latencies in microseconds.
    pub latency: Histogram<u64>,
    /// Answers that were wrong.
    pub failed: usize,
    /// Some of them, in words.
    pub failures: Vec<String>,
    /// Charges answered as made.
    pub charges: Vec<Charge>,
    /// Right answers that had to come from the merchant, by what it was asked.
    pub reached: HashMap<Call, u64>,
    /// Right answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// CPU time the watched proxy used meanwhile.
    pub cpu: Duration,
    /// CPU time of what works beside it.
    pub beside: Duration,
    /// The proxy's memory at the end, in bytes.
    pub resident: u64,
}

/// What is measured while a window lasts.
#[derive(Clone, Copy, Default)]
pub struct Watched<'a> {
    /// The proxy.
    pub proxy: Option<&'a Process>,
    /// What works beside it, such as Redis.
    pub beside: &'a [Process],
}

impl Window {
    /// Requests a second.
    pub fn throughput(&self) -> f64 {
        real(self.latency.len()) / self.elapsed.as_secs_f64()
    }

    /// CPU microseconds of the proxy a request.
    pub fn cpu_micros(&self) -> f64 {
        fine_micros(self.cpu) / real(self.latency.len().max(1))
    }

    /// CPU microseconds of what works beside it a request.
    pub fn beside_micros(&self) -> f64 {
        fine_micros(self.beside) / real(self.latency.len().max(1))
    }

    /// The proxy's memory in megabytes.
    pub fn megabytes(&self) -> f64 {
        real(self.resident) / 1e6
    }

    /// A latency quantile in milliseconds.
    pub fn millis(&self, quantile: f64) -> f64 {
        real(self.latency.value_at_quantile(quantile)) / 1000.0
    }
}

/// An empty histogram: microseconds to a minute, three digits.
///
/// # Errors
/// Never: the bounds are good.
pub fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Connections, opened before anything is measured.
pub struct Fleet(Vec<Connection>);

impl Fleet {
    /// Opens `connections`, each carrying `streams` requests at once (HTTP/1.1: one).
    ///
    /// # Errors
    /// When one cannot be opened.
    pub async fn open(target: &Target, connections: usize, streams: usize) -> Result<Self> {
        let mut opened = Vec::new();
        for _ in 0..connections.max(1) {
            let connection = target.connect().await?;
            for _ in 1..streams {
                opened.extend(connection.share());
            }
            opened.push(connection);
        }
        Ok(Self(opened))
    }

    /// Requests that can be under way at once.
    pub fn width(&self) -> usize {
        self.0.len()
    }

    /// Sends jobs in a closed loop, until they run out or the time is over; every request that was
    /// begun is finished.
    ///
    /// # Errors
    /// When the process that is watched has ended, or a worker panicked.
    pub async fn closed(
        self,
        jobs: Arc<Vec<Job>>,
        longest: Duration,
        watched: Watched<'_>,
    ) -> Result<(Self, Window)> {
        let next = Arc::new(AtomicUsize::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let watch = Watch::begin(watched)?;
        let mut workers = JoinSet::new();
        for connection in self.0 {
            let mut worker = Worker::new(connection)?;
            let (jobs, next, over) = (Arc::clone(&jobs), Arc::clone(&next), Arc::clone(&over));
            workers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                    worker.perform(job, Instant::now()).await;
                }
                worker
            });
        }
        let timer = tokio::spawn(async move {
            tokio::time::sleep(longest).await;
            over.store(true, Ordering::Relaxed);
        });
        let mut workers = join(workers).await?;
        timer.abort();
        let window = watch.end(&mut workers, watched)?;
        Ok((Self(workers.into_iter().map(|worker| worker.connection).collect()), window))
    }

    /// Sends jobs at `rate` a second, whatever the answers do, until they run out.
    ///
    /// # Errors
    /// As [`Self::closed`].
    pub async fn open_loop(
        self,
        jobs: Arc<Vec<Job>>,
        rate: f64,
        watched: Watched<'_>,
    ) -> Result<(Self, Window)> {
        let (arrivals, queue) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        let watch = Watch::begin(watched)?;
        let count = jobs.len();
        // A thread of its own, because the runtime's timers are too coarse by half a millisecond.
        let clock = thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let began = Instant::now();
            for number in 0..count {
                let due = began + Duration::from_secs_f64(real(u64::try_from(number).unwrap_or(0)) / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if arrivals.send((number, due)).is_err() {
                    break;
                }
            }
        })?;
        let mut workers = JoinSet::new();
        for connection in self.0 {
            let mut worker = Worker::new(connection)?;
            let (jobs, queue) = (Arc::clone(&jobs), Arc::clone(&queue));
            workers.spawn(async move {
                loop {
                    let arrival = queue.lock().await.recv().await;
                    let Some((number, due)) = arrival else { break };
                    let Some(job) = jobs.get(number) else { break };
                    worker.perform(job, due).await;
                }
                worker
            });
        }
        let mut workers = join(workers).await?;
        let window = watch.end(&mut workers, watched)?;
        let _ = clock.join();
        Ok((Self(workers.into_iter().map(|worker| worker.connection).collect()), window))
    }
}

async fn join(mut workers: JoinSet<Worker>) -> Result<Vec<Worker>> {
    let mut joined = Vec::new();
    while let Some(worker) = workers.join_next().await {
        joined.push(worker?);
    }
    Ok(joined)
}

struct Worker {
    connection: Connection,
    tally: Tally,
}

/// What one worker has seen.
struct Tally {
    latency: Histogram<u64>,
    done: usize,
    failed: usize,
    failures: Vec<String>,
    charges: Vec<Charge>,
    reached: HashMap<Call, u64>,
    statuses: BTreeMap<u16, u64>,
}

impl Worker {
    fn new(connection: Connection) -> Result<Self> {
        let tally = Tally {
            latency: histogram()?,
            done: 0,
            failed: 0,
            failures: Vec::new(),
            charges: Vec::new(),
            reached: HashMap::new(),
            statuses: BTreeMap::new(),
        };
        Ok(Self { connection, tally })
    }

    /// Does a job and judges what came of it. `from` is when its latency begins.
    async fn perform(&mut self, job: &Job, from: Instant) {
        let done = match job {
            Job::Send(prepared) => {
                let answer = self.connection.send(&prepared.wire).await;
                judge(prepared, answer)
            }
            Job::Checkout(checkout) => checkout.perform(&mut self.connection).await,
        };
        let tally = &mut self.tally;
        tally.latency.saturating_record(micros(from.elapsed()));
        tally.done += 1;
        match done {
            Ok(done) => {
                tally.charges.extend(done.charge);
                *tally.statuses.entry(done.status).or_default() += 1;
                for call in done.reached {
                    *tally.reached.entry(call).or_default() += 1;
                }
            }
            Err(failure) => {
                tally.failed += 1;
                if tally.failures.len() < FAILURES_TOLD {
                    tally.failures.push(format!("{failure:#}"));
                }
            }
        }
    }
}

fn judge(job: &Prepared, answer: Result<Answer>) -> Result<Done> {
    let answer = answer.context("no answer")?;
    if !job.right.contains(&answer.status) || !holds(&answer.body, job.contains.as_bytes()) {
        let body: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
        bail!("{} instead of {:?} with {:?}: {body}", answer.status, job.right, job.contains);
    }
    let reached = job.reaches.into_iter().collect();
    Ok(Done { status: answer.status, charge: job.charge.clone(), reached })
}

/// Whether `bytes` hold `part`.
pub fn holds(bytes: &[u8], part: &[u8]) -> bool {
    let Some((first, _)) = part.split_first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        let Some((_, from)) = rest.split_at_checked(at) else { return false };
        if from.starts_with(part) {
            return true;
        }
        rest = from.split_first().map_or(&[], |(_, behind)| behind);
    }
    false
}

/// A window under way.
struct Watch {
    began: Instant,
    proxy: Option<Usage>,
    beside: Duration,
}

impl Watch {
    fn begin(watched: Watched<'_>) -> Result<Self> {
        let (proxy, beside) = usage(watched)?;
        Ok(Self { proxy, beside, began: Instant::now() })
    }

    fn end(self, workers: &mut [Worker], watched: Watched<'_>) -> Result<Window> {
        let elapsed = self.began.elapsed();
        let (proxy, beside) = usage(watched)?;
        let mut window = Window {
            elapsed,
            done: 0,
            latency: histogram()?,
            failed: 0,
            failures: Vec::new(),
            charges: Vec::new(),
            reached: HashMap::new(),
            statuses: BTreeMap::new(),
            cpu: Duration::ZERO,
            beside: beside.saturating_sub(self.beside),
            resident: 0,
        };
        for tally in workers.iter_mut().map(|worker| &mut worker.tally) {
            window.latency.add(&tally.latency).context("histograms of one kind")?;
            window.done += tally.done;
            window.failed += tally.failed;
            window.failures.append(&mut tally.failures);
            window.charges.append(&mut tally.charges);
            for (call, count) in &tally.reached {
                *window.reached.entry(*call).or_default() += count;
            }
            for (status, count) in &tally.statuses {
                *window.statuses.entry(*status).or_default() += count;
            }
        }
        window.failures.truncate(FAILURES_TOLD);
        if let (Some(before), Some(after)) = (self.proxy, proxy) {
            window.cpu = after.cpu.saturating_sub(before.cpu);
            window.resident = after.resident;
        }
        Ok(window)
    }
}

fn usage(watched: Watched<'_>) -> Result<(Option<Usage>, Duration)> {
    let mut beside = Duration::ZERO;
    for process in watched.beside {
        beside += process.usage()?.cpu;
    }
    Ok((watched.proxy.map(Process::usage).transpose()?, beside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_found_wherever_it_stands() {
        for (bytes, part, found) in
            [("abcabd", "abd", true), ("abc", "", true), ("abc", "abcd", false), ("aab", "ab", true)]
        {
            assert_eq!(holds(bytes.as_bytes(), part.as_bytes()), found, "{bytes} {part}");
        }
    }
}
