//! Health of an upstream, and the observations that change it.

use std::fmt;
use std::num::NonZeroU32;

/// Health of an upstream.
///
/// It displays as in logs: `unknown`, `up` or `down`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamHealth {
    /// Nothing is known yet; it takes no connection.
    Unknown,
    /// It takes connections.
    Up,
    /// It failed; it takes no connection.
    Down,
}

impl UpstreamHealth {
    /// Returns the word for it, as in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for UpstreamHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Result of one probe, one dial or one relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    Passed,
    Failed,
}

impl Observation {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Passed
        } else {
            Self::Failed
        }
    }
}

/// Numbers of observations in a row that change the health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HealthThresholds {
    /// Passes until it comes up.
    pub(crate) rise: NonZeroU32,
    /// Failures until it goes down.
    pub(crate) fall: NonZeroU32,
}

/// Health, and the run of observations that may change it.
///
/// Failed probes, failed dials and broken relays are counted apart: an upstream that answers every
/// probe and fails every dial goes down, and so does one that accepts dials and fails its probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Unknown {
        failures: u32,
    },
    Up {
        probes: u32,
        dials: u32,
        breaks: u32,
    },
    Down {
        passes: u32,
    },
}

/// Number of broken relays in a row that take an upstream down, unless `fall` is more. A client may
/// have caused a break by what it sent, so more of them are required than of failed dials.
pub(crate) const BREAKS: u32 = 10;

impl HealthState {
    pub(crate) const UNKNOWN: Self = Self::Unknown { failures: 0 };
    pub(crate) const UP: Self = Self::Up {
        probes: 0,
        dials: 0,
        breaks: 0,
    };
    pub(crate) const DOWN: Self = Self::Down { passes: 0 };

    /// Returns a state that is up, and down again with the next failed dial.
    pub(crate) fn half_open(thresholds: HealthThresholds) -> Self {
        Self::Up {
            probes: 0,
            dials: thresholds.fall.get() - 1,
            breaks: 0,
        }
    }

    /// Returns this state, or one for `elsewhere`, the health known to another process, if it is
    /// unknown here.
    pub(crate) fn or(self, elsewhere: UpstreamHealth) -> Self {
        match (self, elsewhere) {
            (Self::Unknown { .. }, UpstreamHealth::Up) => Self::UP,
            (Self::Unknown { .. }, UpstreamHealth::Down) => Self::DOWN,
            (Self::Unknown { .. }, UpstreamHealth::Unknown)
            | (Self::Up { .. } | Self::Down { .. }, _) => self,
        }
    }

    pub(crate) fn health(self) -> UpstreamHealth {
        match self {
            Self::Unknown { .. } => UpstreamHealth::Unknown,
            Self::Up { .. } => UpstreamHealth::Up,
            Self::Down { .. } => UpstreamHealth::Down,
        }
    }

    /// Returns the state after one probe.
    ///
    /// The first pass brings an unknown upstream up: `rise` delays only an upstream that was seen
    /// to fail, and a new one was not. (Envoy does the same.) Failures of a new upstream are
    /// counted, because it may be starting.
    pub(crate) fn probed(
        self,
        probe: Observation,
        HealthThresholds { rise, fall }: HealthThresholds,
    ) -> Self {
        use Observation::{Failed, Passed};
        match (self, probe) {
            (Self::Unknown { .. }, Passed) => Self::UP,
            (Self::Unknown { failures: n }, Failed) if n + 1 < fall.get() => {
                Self::Unknown { failures: n + 1 }
            }
            (Self::Unknown { .. }, Failed) => Self::DOWN,
            (Self::Up { dials, breaks, .. }, Passed) => Self::Up {
                probes: 0,
                dials,
                breaks,
            },
            (
                Self::Up {
                    probes: n,
                    dials,
                    breaks,
                },
                Failed,
            ) if n + 1 < fall.get() => Self::Up {
                probes: n + 1,
                dials,
                breaks,
            },
            (Self::Up { .. }, Failed) => Self::DOWN,
            (Self::Down { passes: n }, Passed) if n + 1 < rise.get() => {
                Self::Down { passes: n + 1 }
            }
            (Self::Down { .. }, Passed) => Self::UP,
            (Self::Down { .. }, Failed) => Self::DOWN,
        }
    }

    /// Returns the state after one dial for a client.
    ///
    /// Only a probe, or the end of its cool-down, brings an upstream up. The result of a dial that
    /// was under way when the upstream went down is ignored.
    pub(crate) fn dialed(
        self,
        dial: Observation,
        HealthThresholds { fall, .. }: HealthThresholds,
    ) -> Self {
        use Observation::{Failed, Passed};
        match (self, dial) {
            (Self::Unknown { .. }, Passed | Failed) => self,
            (Self::Up { probes, breaks, .. }, Passed) => Self::Up {
                probes,
                dials: 0,
                breaks,
            },
            (
                Self::Up {
                    probes,
                    dials: n,
                    breaks,
                },
                Failed,
            ) if n + 1 < fall.get() => Self::Up {
                probes,
                dials: n + 1,
                breaks,
            },
            (Self::Up { .. }, Failed) => Self::DOWN,
            (Self::Down { .. }, Passed | Failed) => self,
        }
    }

    /// Returns the state after one relay, which failed if the upstream broke it off.
    pub(crate) fn relayed(
        self,
        relay: Observation,
        HealthThresholds { fall, .. }: HealthThresholds,
    ) -> Self {
        use Observation::{Failed, Passed};
        match (self, relay) {
            (Self::Up { probes, dials, .. }, Passed) => Self::Up {
                probes,
                dials,
                breaks: 0,
            },
            (
                Self::Up {
                    probes,
                    dials,
                    breaks: n,
                },
                Failed,
            ) if n + 1 < fall.get().max(BREAKS) => Self::Up {
                probes,
                dials,
                breaks: n + 1,
            },
            (Self::Up { .. }, Failed) => Self::DOWN,
            (Self::Unknown { .. } | Self::Down { .. }, Passed | Failed) => self,
        }
    }
}

#[cfg(test)]
mod tests;
