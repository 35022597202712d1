//! Execution of probes: the timer, the dial and the question.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it connects, again and again"
)]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::cause::{Excerpt, FailureCause, is_ours};
use crate::group::UpstreamGroup;
use crate::group_config::{HealthConfig, UpstreamConfig, UpstreamState};
use crate::health::UpstreamHealth;
use crate::limit::SharedName;
use crate::probe_kind::ProbeKind;
use crate::probe_permits::ProbePermits;

/// Most probes under way at a time, over all groups.
const CONCURRENT_PROBES: usize = 512;

/// Mean time between two first probes of upstreams that start together.
const FIRST_PROBE_SPACING: Duration = Duration::from_millis(1);

/// Smallest buffer for an answer, so that enough of an unexpected one can be logged.
const ANSWER_ROOM: usize = 128;

/// Longest pause between two probes of an upstream whose health is unknown, and which thus serves
/// nobody.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(200);

/// Spawner of probe tasks.
#[derive(Debug)]
pub(crate) struct Prober {
    runtime: Handle,
    tasks: TaskTracker,
    permits: Arc<ProbePermits>,
    /// Number of upstreams whose first probe has not ended.
    starting: Arc<AtomicU32>,
    stopped: CancellationToken,
}

impl Prober {
    pub(crate) fn new(runtime: Handle, tasks: TaskTracker, stopped: CancellationToken) -> Self {
        Self {
            runtime,
            tasks,
            permits: ProbePermits::new(CONCURRENT_PROBES),
            starting: Arc::default(),
            stopped,
        }
    }

    /// Starts a task that probes the upstream until the group is gone, the task is aborted, or all
    /// probes are stopped.
    fn spawn(&self, group: &Arc<UpstreamGroup>, address: SocketAddr) -> AbortHandle {
        let before = self.starting.fetch_add(1, Relaxed);
        let starting = FirstProbeGuard(Arc::clone(&self.starting));
        let health = &group.config().health;
        let first = health.first_pause(before, fastrand::f64());
        let rounds = ProbeLoop {
            group: Arc::downgrade(group),
            name: Arc::clone(group.name()),
            address,
            permits: Arc::clone(&self.permits),
            tasks: self.tasks.clone(),
        };
        let stopped = self.stopped.clone();
        let task = async move {
            stopped
                .run_until_cancelled(rounds.run(first, starting))
                .await;
        };
        self.tasks.spawn_on(task, &self.runtime).abort_handle()
    }
}

impl UpstreamGroup {
    /// Starts and stops probes so that exactly the upstreams that should be probed are.
    pub(crate) fn probe(self: &Arc<Self>, prober: &Prober) {
        let config = self.config();
        self.begin_probing();
        let wanted = config
            .upstreams
            .iter()
            .filter(|upstream| is_probed(&config.health, upstream))
            .map(|upstream| upstream.address);
        self.probes()
            .keep(wanted, |address| prober.spawn(self, address));
    }

    /// Starts or stops the probe of this upstream, according to the configuration.
    pub(crate) fn probe_one(self: &Arc<Self>, prober: &Prober, upstream: SocketAddr) {
        let config = self.config();
        let mut known = config.upstreams.iter();
        let known = known.rfind(|known| known.address == upstream);
        if known.is_some_and(|known| is_probed(&config.health, known)) {
            self.probes()
                .keep_one(upstream, || prober.spawn(self, upstream));
        } else {
            self.probes().stop_one(upstream);
        }
    }
}

fn is_probed(health: &HealthConfig, upstream: &UpstreamConfig) -> bool {
    health.check != ProbeKind::Off && upstream.state != UpstreamState::Maint
}

/// Count of one upstream whose first probe has not ended.
struct FirstProbeGuard(Arc<AtomicU32>);

impl Drop for FirstProbeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct ProbeLoop {
    // A weak reference, so that probing keeps no removed group alive.
    group: Weak<UpstreamGroup>,
    name: SharedName,
    address: SocketAddr,
    permits: Arc<ProbePermits>,
    tasks: TaskTracker,
}

/// Failure of a probe.
#[derive(Debug)]
enum ProbeFailure {
    /// This process lacks a resource, which says nothing about the upstream.
    Ours(io::Error),
    /// The upstream failed.
    Theirs(FailureCause),
}

impl From<io::Error> for ProbeFailure {
    fn from(error: io::Error) -> Self {
        if is_ours(&error) {
            Self::Ours(error)
        } else {
            Self::Theirs(FailureCause::of(&error))
        }
    }
}

impl ProbeLoop {
    async fn run(self, first: Duration, starting: FirstProbeGuard) {
        sleep(first).await;
        let mut next = self.round().await;
        drop(starting);
        while let Some(pause) = next {
            sleep(pause).await;
            next = self.round().await;
        }
    }

    /// Probes once. Returns the pause until the next probe, or `None` if the group or the upstream
    /// is gone.
    async fn round(&self) -> Option<Duration> {
        let permit = self.permits.acquire(&self.name).await;
        let config = self.group.upgrade()?.config();
        let asked = self.ask(&config.health).await;
        drop(permit);
        let group = self.group.upgrade()?;
        let (name, address) = (&*self.name, self.address);
        match asked {
            Ok(()) => group.probed(address, Ok(())),
            Err(ProbeFailure::Ours(error)) => {
                debug!(group = name, upstream = %address, %error, "cannot probe the upstream");
            }
            Err(ProbeFailure::Theirs(cause)) => {
                debug!(group = name, upstream = %address, %cause, "probe failed");
                group.probed(address, Err(cause));
            }
        }
        Some(
            config
                .health
                .pause(group.health(self.address)?, fastrand::f64()),
        )
    }

    async fn ask(&self, health: &HealthConfig) -> Result<(), ProbeFailure> {
        if matches!(health.check, ProbeKind::Off) {
            return Ok(());
        }
        let deadline = Instant::now() + health.timeout;
        let connected = timeout_at(deadline, TcpStream::connect(self.address)).await;
        let stream =
            connected.map_err(|_| ProbeFailure::Theirs(FailureCause::ConnectTimedOut))??;
        let talked = timeout_at(deadline, self.talk(stream, health)).await;
        talked.map_err(|_| ProbeFailure::Theirs(FailureCause::AnswerTimedOut))?
    }

    async fn talk(&self, mut stream: TcpStream, health: &HealthConfig) -> Result<(), ProbeFailure> {
        stream.write_all(&health.preface).await?;
        match &health.check {
            ProbeKind::Off | ProbeKind::Tcp => Ok(()),
            ProbeKind::SendExpect { send, expect } => {
                stream.write_all(send).await?;
                expected(&mut stream, expect).await
            }
            ProbeKind::Custom(probe) => {
                let probe = Arc::clone(probe);
                // The probe has a task of its own, so that its panic ends one probe and not all
                // that follow.
                let asked = self.tasks.spawn(async move { probe.probe(stream).await });
                let _ended = TaskAbortGuard(asked.abort_handle());
                Ok(asked.await.map_err(io::Error::other)??)
            }
        }
    }
}

/// Reads until the answer is as expected, or can no longer be.
async fn expected(stream: &mut TcpStream, expect: &[u8]) -> Result<(), ProbeFailure> {
    let mut answer = vec![0; expect.len().max(ANSWER_ROOM)];
    let mut length = 0;
    while length < expect.len() && expect.starts_with(&answer[..length]) {
        match stream.read(&mut answer[length..]).await? {
            0 if length == 0 => return Err(ProbeFailure::Theirs(FailureCause::Closed)),
            0 => break,
            read => length += read,
        }
    }
    if answer[..length].starts_with(expect) {
        return Ok(());
    }
    let excerpt = Excerpt::of(&answer[..length]);
    Err(ProbeFailure::Theirs(FailureCause::UnexpectedAnswer(
        excerpt,
    )))
}

struct TaskAbortGuard(AbortHandle);

impl Drop for TaskAbortGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HealthConfig {
    /// Returns the pause before the first probe, while `others` wait for theirs; `chance` is from 0
    /// to 1.
    fn first_pause(&self, others: u32, chance: f64) -> Duration {
        let spread = self
            .interval
            .min(FIRST_PROBE_SPACING.saturating_mul(others));
        spread.mul_f64(chance)
    }

    /// Returns the pause before the next probe; `chance` is from 0 to 1.
    fn pause(&self, health: UpstreamHealth, chance: f64) -> Duration {
        let interval = match health {
            UpstreamHealth::Unknown => self.interval.min(UNKNOWN_INTERVAL),
            UpstreamHealth::Up | UpstreamHealth::Down => self.interval,
        };
        interval.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * chance - 1.0))
    }
}

#[cfg(test)]
mod tests;
