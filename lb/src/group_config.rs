//! What a group is configured to be.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use crate::{
    health::HealthThresholds,
    limit::{Limit, SharedName},
    probe::ProbeKind,
};

const fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a default is not zero")
}

/// A named set of interchangeable upstreams.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupConfig {
    /// Its name.
    pub name: SharedName,
    /// Where its connections may go. Of two with one address, the last one counts.
    pub upstreams: Vec<UpstreamConfig>,
    /// How upstreams are probed.
    pub health: HealthConfig,
    /// How many connections it may have in all.
    pub max_connections: Limit,
    /// What happens when every upstream is down.
    pub when_all_down: WhenAllDown,
    /// How long an upstream that comes to serve beside others is spared: it begins as if it had as many
    /// connections as they, and this counts less and less. Zero spares none.
    pub slow_start: Duration,
    /// How upstreams are dialed.
    pub dial: DialConfig,
    /// How bytes are relayed.
    pub relay: RelayConfig,
}

impl GroupConfig {
    /// A group with the defaults of everything but its name and its upstreams.
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

/// One address of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpstreamConfig {
    /// Where to connect to.
    pub address: SocketAddr,
    /// Its share: twice the weight, twice the connections.
    pub weight: NonZeroU32,
    /// Whether it serves only when no other is healthy.
    pub backup: bool,
    /// What the operator wants of it.
    pub state: UpstreamState,
}

impl UpstreamConfig {
    /// An upstream of weight one that is ready and no backup.
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: number(1),
            backup: false,
            state: UpstreamState::Ready,
        }
    }
}

/// What the operator wants of an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum UpstreamState {
    /// New connections, if it is healthy.
    #[default]
    Ready,
    /// No new connections; open ones go on, and so do probes.
    Drain,
    /// No new connections and no probes; it must pass again afterwards.
    Maint,
}

impl UpstreamState {
    /// The word for it, as in the policy and the logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// What happens to a connection when every upstream is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenAllDown {
    /// It is refused at once.
    #[default]
    Refuse,
    /// It tries those that are down, in case the probes are wrong.
    TryAll,
}

/// How upstreams are probed.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthConfig {
    /// What is asked.
    pub check: ProbeKind,
    /// What a probe sends before it asks, as connections of the group do: a PROXY header, say.
    pub preface: Vec<u8>,
    /// The time between two probes of one upstream.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Passes in a row to come up again; the first pass suffices for an upstream that is yet unknown.
    pub rise: NonZeroU32,
    /// Failures in a row to go down.
    pub fall: NonZeroU32,
    /// How much of the interval is left to chance, from 0 to 1.
    pub jitter: f64,
    /// What becomes of the connections that an upstream has when it goes down.
    pub on_down: OnDown,
}

/// What becomes of the connections that an upstream has when it goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnDown {
    /// They go on as long as they can.
    #[default]
    Keep,
    /// They are reset at once, unless only the ends of connections spoke against it, which a client may have
    /// caused: then with the next probe or dial that fails.
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

/// How upstreams are dialed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DialConfig {
    /// How long one try may take.
    pub connect: Duration,
    /// How many upstreams are tried.
    pub tries: NonZeroU32,
    /// How long all tries may take together.
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

/// How bytes are relayed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RelayConfig {
    /// How long both directions may be silent. A direction is not silent while its side still takes what it
    /// was sent.
    pub idle: Option<Duration>,
    /// How long a connection may be silent of which one side has ended.
    ///
    /// When it is the upstream that has, a third of it: the client was told, and nothing more can come
    /// for it.
    pub half_closed: Option<Duration>,
    /// How long a side may take nothing while bytes wait for it.
    pub stall: Option<Duration>,
    /// How long a connection may live.
    pub lifetime: Option<Duration>,
    /// How much of the lifetime is left to chance, from 0 to 1; chance only shortens it.
    pub lifetime_jitter: f64,
    /// How long a peer is silent before the kernel asks whether it is still there. Without an answer for
    /// as long again, the connection ends.
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
