//! The timer and the dial behind `health`.

use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    cause::{Excerpt, FailureCause},
    dial::is_ours,
    group::UpstreamGroup,
    group_config::HealthConfig,
    health::UpstreamHealth,
    limit::SharedName,
    probe_permits::ProbePermits,
};

/// How many probes are under way at a time, over all groups.
const CONCURRENT_PROBES: usize = 512;

/// First probes are spread so that about this much time lies between two of them.
const FIRST_PROBE_SPACING: Duration = Duration::from_millis(1);

/// How much of an unexpected answer is read, to be told.
const ANSWER_ROOM: usize = 128;

/// The longest pause between two probes of an upstream that is yet unknown, and thus useless.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(200);

/// What a probe asks of an upstream.
#[derive(Clone, Debug)]
pub enum ProbeKind {
    /// Nothing. The upstream counts as up; failed dials give it a rest of one interval.
    Off,
    /// That it accepts a connection.
    Tcp,
    /// That it answers.
    SendExpect {
        /// What is sent.
        send: Vec<u8>,
        /// What the answer must begin with.
        expect: Vec<u8>,
    },
    /// Whatever somebody else asks.
    Custom(Arc<dyn Probe>),
}

impl PartialEq for ProbeKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, Self::Off) | (Self::Tcp, Self::Tcp) => true,
            (
                Self::SendExpect { send, expect },
                Self::SendExpect {
                    send: other_send,
                    expect: other_expect,
                },
            ) => send == other_send && expect == other_expect,
            (Self::Custom(probe), Self::Custom(other)) => probe.key() == other.key(),
            (Self::Off | Self::Tcp | Self::SendExpect { .. } | Self::Custom(_), _) => false,
        }
    }
}

/// One way to ask an upstream how it is.
pub trait Probe: Send + Sync + Debug {
    /// Tells one probe from another: two with the same key ask the same.
    fn key(&self) -> &str;

    /// Asks over a fresh connection; an error is a failed probe, and so is a panic. The error's words are
    /// logged, short and escaped, when the upstream goes down.
    ///
    /// The future is dropped when it takes longer than the timeout.
    fn probe(&self, stream: TcpStream)
    -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>>;
}

/// Where probes run.
#[derive(Debug)]
pub(crate) struct Prober {
    runtime: Handle,
    tasks: TaskTracker,
    permits: Arc<ProbePermits>,
    /// How many upstreams wait for their first probe's end.
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

    /// Probes the upstream until the group is gone, the task aborted, or everything stopped.
    pub(crate) fn spawn(&self, group: &Arc<UpstreamGroup>, address: SocketAddr) -> AbortHandle {
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

/// An upstream that was not probed yet, counted.
struct FirstProbeGuard(Arc<AtomicU32>);

impl Drop for FirstProbeGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

struct ProbeLoop {
    // A weak one, so that probing keeps no removed group alive.
    group: Weak<UpstreamGroup>,
    name: SharedName,
    address: SocketAddr,
    permits: Arc<ProbePermits>,
    tasks: TaskTracker,
}

/// How a probe failed.
#[derive(Debug)]
enum ProbeFailure {
    /// For something that only we lack: it says nothing about the upstream.
    Ours(io::Error),
    /// By the upstream.
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

    /// Probes once and says how long to pause, unless there is nothing to probe any more.
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
                debug!(group = name, upstream = %address, %error, "upstream cannot be probed");
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
                // A task of its own, so that its panic ends one probe and not all that follow.
                let asked = self.tasks.spawn(async move { probe.probe(stream).await });
                let _ended = TaskAbortGuard(asked.abort_handle());
                Ok(asked.await.map_err(io::Error::other)??)
            }
        }
    }
}

/// Reads until the answer is as expected, or cannot become so.
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
    /// How long to wait for the first probe when so many others wait for theirs.
    fn first_pause(&self, others: u32, chance: f64) -> Duration {
        let spread = self
            .interval
            .min(FIRST_PROBE_SPACING.saturating_mul(others));
        spread.mul_f64(chance)
    }

    /// How long to wait for the next probe; `chance` is from 0 to 1.
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
