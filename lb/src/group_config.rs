//! Configuration of a group.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::health::HealthThresholds;
use crate::limit::{Limit, SharedName};
use crate::probe_kind::ProbeKind;

const fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a default is not zero")
}

/// A named set of interchangeable upstreams.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{GroupConfig, HealthConfig, ProbeKind, UpstreamConfig};
///
/// let upstreams = [[10, 0, 0, 1], [10, 0, 0, 2]].map(|ip| UpstreamConfig::new((ip, 6379).into()));
/// let cache = GroupConfig {
///     health: HealthConfig {
///         check: ProbeKind::SendExpect { send: b"PING\r\n".into(), expect: b"+PONG".into() },
///         interval: Duration::from_secs(2),
///         ..HealthConfig::default()
///     },
///     slow_start: Duration::ZERO,
///     ..GroupConfig::new("cache", upstreams.into())
/// };
/// assert_eq!(cache.check(), Ok(()));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct GroupConfig {
    /// Name of the group.
    pub name: SharedName,
    /// Upstreams of the group. Of two with one address, the last one counts.
    pub upstreams: Vec<UpstreamConfig>,
    /// Settings of the probes.
    pub health: HealthConfig,
    /// Limit of the group's connections.
    pub max_connections: Limit,
    /// Behavior when every upstream is down.
    pub when_all_down: WhenAllDown,
    /// Time in which an upstream that begins to serve beside others reaches its share: it starts as
    /// if it had as many connections as they, and this counts less and less. Zero turns this off.
    pub slow_start: Duration,
    /// Settings of the dials.
    pub dial: DialConfig,
    /// Settings of the relays.
    pub relay: RelayConfig,
}

impl GroupConfig {
    /// Makes a group with defaults for everything but its name and its upstreams.
    pub fn new(name: impl Into<SharedName>, upstreams: Vec<UpstreamConfig>) -> Self {
        Self {
            name: name.into(),
            upstreams,
            health: HealthConfig::default(),
            max_connections: Limit::Unlimited,
            when_all_down: WhenAllDown::default(),
            slow_start: Duration::from_secs(10),
            dial: DialConfig::default(),
            relay: RelayConfig::default(),
        }
    }
}

/// Configuration of one upstream.
///
/// ```
/// use std::num::NonZeroU32;
///
/// use lb::{UpstreamConfig, UpstreamState};
///
/// let large = UpstreamConfig {
///     weight: NonZeroU32::new(2).unwrap(),
///     ..UpstreamConfig::new(([10, 0, 0, 1], 5432).into())
/// };
/// let spare = UpstreamConfig {
///     backup: true,
///     ..UpstreamConfig::new(([10, 0, 1, 1], 5432).into())
/// };
/// assert_eq!((large.state, spare.weight.get()), (UpstreamState::Ready, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// Address to connect to.
    pub address: SocketAddr,
    /// Share of the upstream: twice the weight, twice the connections.
    pub weight: NonZeroU32,
    /// True if it is chosen only when no healthy primary upstream is left to try.
    pub backup: bool,
    /// State that the operator has set.
    pub state: UpstreamState,
}

impl UpstreamConfig {
    /// Makes an upstream of weight one that is ready and not a backup.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: number(1),
            backup: false,
            state: UpstreamState::Ready,
        }
    }
}

/// State of an upstream as the operator sets it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum UpstreamState {
    /// It gets new connections if it is healthy.
    #[default]
    Ready,
    /// It gets no new connections; open ones go on, and so do probes.
    Drain,
    /// It gets no new connections and no probes; afterwards it must pass a probe again.
    Maint,
}

impl UpstreamState {
    /// Returns the word for it, as in the policy and the logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// Behavior of a group when every upstream is down.
///
/// It is a setting of a group: [`GroupConfig::when_all_down`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenAllDown {
    /// A connection is refused at once.
    #[default]
    Refuse,
    /// A connection tries the upstreams that are down, in case the probes are wrong.
    TryAll,
}

/// Settings of the probes of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthConfig {
    /// Kind of the probes.
    pub check: ProbeKind,
    /// Bytes that a probe sends first, as connections of the group do: a PROXY header, for example.
    pub preface: Vec<u8>,
    /// Time between two probes of one upstream; at most 200 ms while its health is unknown.
    pub interval: Duration,
    /// Time limit of one probe.
    pub timeout: Duration,
    /// Number of passes in a row after which an upstream comes up again; one pass suffices if it is
    /// yet unknown.
    pub rise: NonZeroU32,
    /// Number of failures in a row after which an upstream goes down.
    pub fall: NonZeroU32,
    /// Random part of the interval, from 0 to 1: at 0.1, pauses are up to a tenth shorter or
    /// longer.
    pub jitter: f64,
    /// Fate of the open connections of an upstream that goes down.
    pub on_down: OnDown,
}

/// Fate of the open connections of an upstream that goes down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnDown {
    /// They go on.
    #[default]
    Keep,
    /// They are reset at once. If the upstream went down only by the ends of connections, which a
    /// client may have caused, they are reset with the next probe or dial that fails.
    Cut,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            check: ProbeKind::Tcp,
            preface: Vec::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise: number(2),
            fall: number(3),
            jitter: 0.1,
            on_down: OnDown::Keep,
        }
    }
}

impl HealthConfig {
    pub(crate) fn thresholds(&self) -> HealthThresholds {
        HealthThresholds {
            rise: self.rise,
            fall: self.fall,
        }
    }
}

/// Settings of the dials of a group.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{DialConfig, GroupConfig};
///
/// let impatient = GroupConfig {
///     dial: DialConfig {
///         connect: Duration::from_millis(500),
///         budget: Duration::from_secs(1),
///         ..DialConfig::default()
///     },
///     ..GroupConfig::new("ledger", Vec::new())
/// };
/// assert_eq!(impatient.dial.tries.get(), 3);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialConfig {
    /// Time limit of one dial.
    pub connect: Duration,
    /// Most upstreams that are tried for one connection.
    pub tries: NonZeroU32,
    /// Time limit of all dials for one connection.
    pub budget: Duration,
}

impl Default for DialConfig {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            tries: number(3),
            budget: Duration::from_secs(6),
        }
    }
}

/// Settings of the relays of a group. `None` is not a limit.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{GroupConfig, RelayConfig};
///
/// let terminals = GroupConfig {
///     // People pause; nobody stays for more than a day.
///     relay: RelayConfig {
///         idle: None,
///         lifetime: Some(Duration::from_hours(24)),
///         ..RelayConfig::default()
///     },
///     ..GroupConfig::new("terminals", Vec::new())
/// };
/// assert_eq!(terminals.check(), Ok(()));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelayConfig {
    /// Longest silence of both directions. A direction is not silent while its receiver still takes
    /// what it was sent.
    pub idle: Option<Duration>,
    /// Longest silence of a connection of which one side has ended.
    ///
    /// If the upstream has ended, a third of it: the client was notified, and nothing more can
    /// follow for it.
    pub half_closed: Option<Duration>,
    /// Longest time that a side may take nothing while bytes wait for it.
    pub stall: Option<Duration>,
    /// Longest life of a connection.
    pub lifetime: Option<Duration>,
    /// Random part of the lifetime, from 0 to 1: at 0.1, a connection ends up to a tenth earlier,
    /// never later.
    pub lifetime_jitter: f64,
    /// Silence of a peer after which the kernel asks whether it is still there. Without an answer
    /// for as long again, the connection ends.
    pub keepalive: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_hours(1)),
            half_closed: Some(Duration::from_mins(1)),
            stall: Some(Duration::from_mins(5)),
            lifetime: None,
            lifetime_jitter: 0.1,
            keepalive: Duration::from_mins(1),
        }
    }
}
