//! The timer and the dial behind `health`.

use std::{
    fmt::Debug,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Handle,
    sync::Semaphore,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    dial::is_ours,
    group::Group,
    group_config::HealthConfig,
    health::{Health, Observation},
};

/// How many probes are under way at a time, over all groups.
const CONCURRENT_PROBES: usize = 512;

/// First probes are spread so that about this much time lies between two of them.
const FIRST_PROBE_SPACING: Duration = Duration::from_millis(1);

/// The longest pause between two probes of an upstream that is yet unknown, and thus useless.
const UNKNOWN_INTERVAL: Duration = Duration::from_millis(200);

/// What a probe asks of an upstream.
#[derive(Clone, Debug)]
pub enum Check {
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

impl PartialEq for Check {
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

    /// Asks over a fresh connection; an error is a failed probe, and so is a panic.
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
    permits: Arc<Semaphore>,
    stopped: CancellationToken,
}

impl Prober {
    pub(crate) fn new(runtime: Handle, tasks: TaskTracker, stopped: CancellationToken) -> Self {
        Self {
            runtime,
            tasks,
            permits: Arc::new(Semaphore::new(CONCURRENT_PROBES)),
            stopped,
        }
    }

    /// Probes the upstream until the group is gone, the task aborted, or everything stopped.
    pub(crate) fn spawn(&self, group: &Arc<Group>, address: SocketAddr) -> AbortHandle {
        let first = group
            .config()
            .health
            .first_pause(self.tasks.len(), fastrand::f64());
        let rounds = Rounds {
            group: Arc::downgrade(group),
            address,
            permits: Arc::clone(&self.permits),
            tasks: self.tasks.clone(),
        };
        let stopped = self.stopped.clone();
        let task = async move {
            stopped.run_until_cancelled(rounds.run(first)).await;
        };
        self.tasks.spawn_on(task, &self.runtime).abort_handle()
    }
}

struct Rounds {
    // A weak one, so that probing keeps no removed group alive.
    group: Weak<Group>,
    address: SocketAddr,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Rounds {
    async fn run(self, first: Duration) {
        let mut pause = first;
        loop {
            sleep(pause).await;
            let Some(next) = self.round().await else {
                return;
            };
            pause = next;
        }
    }

    /// Probes once and says how long to pause, unless there is nothing to probe any more.
    async fn round(&self) -> Option<Duration> {
        let permit = self.permits.acquire().await.ok()?;
        let config = self.group.upgrade()?.config();
        let asked = timeout(config.health.timeout, self.ask(&config.health.check)).await;
        drop(permit);
        let group = self.group.upgrade()?;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => group.probed(self.address, Observation::Passed),
            Err(error) if is_ours(&error) => {}
            Err(_) => group.probed(self.address, Observation::Failed),
        }
        Some(
            config
                .health
                .pause(group.health(self.address)?, fastrand::f64()),
        )
    }

    async fn ask(&self, check: &Check) -> io::Result<()> {
        if matches!(check, Check::Off) {
            return Ok(());
        }
        let mut stream = TcpStream::connect(self.address).await?;
        match check {
            Check::Off | Check::Tcp => Ok(()),
            Check::SendExpect { send, expect } => {
                stream.write_all(send).await?;
                let mut answer = vec![0; expect.len()];
                stream.read_exact(&mut answer).await?;
                let expected = answer == *expect;
                expected
                    .then_some(())
                    .ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Check::Custom(probe) => {
                let probe = Arc::clone(probe);
                // A task of its own, so that its panic ends one probe and not all that follow.
                let asked = self.tasks.spawn(async move { probe.probe(stream).await });
                let _ended = AbortOnDrop(asked.abort_handle());
                asked.await.map_err(io::Error::other)?
            }
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl HealthConfig {
    /// How long to wait for the first probe when so many tasks probe already.
    fn first_pause(&self, already: usize, chance: f64) -> Duration {
        let already = u32::try_from(already).unwrap_or(u32::MAX);
        let spread = self
            .interval
            .min(FIRST_PROBE_SPACING.saturating_mul(already));
        spread.mul_f64(chance)
    }

    /// How long to wait for the next probe; `chance` is from 0 to 1.
    fn pause(&self, health: Health, chance: f64) -> Duration {
        let interval = match health {
            Health::Unknown => self.interval.min(UNKNOWN_INTERVAL),
            Health::Up | Health::Down => self.interval,
        };
        interval.mul_f64(1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * chance - 1.0))
    }
}

#[cfg(test)]
mod tests;
