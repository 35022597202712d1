//! Up or down, and what moves it.

use std::{fmt, num::NonZeroU32};

/// What is known about an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum UpstreamHealth {
    /// Nothing yet; it takes no connection.
    Unknown,
    /// It takes connections.
    Up,
    /// It failed; it takes no connection.
    Down,
}

impl UpstreamHealth {
    /// The word for it, as in logs and metrics.
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

/// What one probe or one dial said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// How many observations in a row it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HealthThresholds {
    /// Passes to come up.
    pub(crate) rise: NonZeroU32,
    /// Failures to go down.
    pub(crate) fall: NonZeroU32,
}

/// Health, and the row of observations that may change it.
///
/// Failed probes, failed dials and broken relays are rows of their own: an upstream that answers every
/// probe and fails every dial goes down, and so does one that accepts dials and fails its probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// How many relays in a row an upstream has to break to go down, if `fall` is not more. A client may have
/// caused one by what it said, so it takes more of them than of dials.
pub(crate) const BREAKS: u32 = 10;

impl HealthState {
    pub(crate) const UNKNOWN: Self = Self::Unknown { failures: 0 };
    pub(crate) const UP: Self = Self::Up {
        probes: 0,
        dials: 0,
        breaks: 0,
    };
    pub(crate) const DOWN: Self = Self::Down { passes: 0 };

    /// Up, but down again with the next failed dial.
    pub(crate) fn half_open(thresholds: HealthThresholds) -> Self {
        Self::Up {
            probes: 0,
            dials: thresholds.fall.get() - 1,
            breaks: 0,
        }
    }

    /// What is known, or else what somebody else knows.
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

    /// The condition after one probe.
    ///
    /// The first pass brings an unknown upstream up: `rise` holds back one that was seen to fail, and
    /// a newcomer was not. (Envoy does so too.) Its failures are counted, since it may be starting.
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

    /// The condition after one dial for a client.
    ///
    /// Only a probe, or the end of its rest, brings an upstream up. A dial that was under way when
    /// it went down says nothing new.
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

    /// The condition after one relay, which failed if the upstream broke it off.
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
mod tests {
    use super::*;

    const THRESHOLDS: HealthThresholds = HealthThresholds {
        rise: NonZeroU32::new(3).unwrap(),
        fall: NonZeroU32::new(2).unwrap(),
    };

    /// `+` and `-` are probes, `o` and `x` dials that succeeded and failed, `f` and `b` relays that
    /// finished and broke; rise 3, fall 2.
    fn after(start: HealthState, story: &str) -> UpstreamHealth {
        let step = |condition: HealthState, sign| match sign {
            '+' => condition.probed(Observation::Passed, THRESHOLDS),
            '-' => condition.probed(Observation::Failed, THRESHOLDS),
            'o' => condition.dialed(Observation::Passed, THRESHOLDS),
            'x' => condition.dialed(Observation::Failed, THRESHOLDS),
            'f' => condition.relayed(Observation::Passed, THRESHOLDS),
            'b' => condition.relayed(Observation::Failed, THRESHOLDS),
            _ => unreachable!("no such sign"),
        };
        story.chars().fold(start, step).health()
    }

    #[test]
    fn an_unknown_upstream_must_pass_once_before_it_serves() {
        let fresh = |story| after(HealthState::UNKNOWN, story);
        assert_eq!(fresh(""), UpstreamHealth::Unknown);
        assert_eq!(fresh("+"), UpstreamHealth::Up);
        assert_eq!(
            fresh("-"),
            UpstreamHealth::Unknown,
            "one failure is no verdict"
        );
        assert_eq!(fresh("-+"), UpstreamHealth::Up, "it was starting");
        assert_eq!(
            fresh("--"),
            UpstreamHealth::Down,
            "the second failure in a row takes it down"
        );
        assert_eq!(
            fresh("--+"),
            UpstreamHealth::Down,
            "now it must pass three times"
        );
        assert_eq!(
            fresh("xxooo"),
            UpstreamHealth::Unknown,
            "dials say nothing about the unknown"
        );
    }

    #[test]
    fn an_upstream_that_is_up_goes_down_with_the_second_failure_in_a_row() {
        let up = |story| after(HealthState::UP, story);
        assert_eq!(
            up("-+-+-"),
            UpstreamHealth::Up,
            "scattered failures never add up"
        );
        assert_eq!(up("--"), UpstreamHealth::Down);
        assert_eq!(
            up("xoxox"),
            UpstreamHealth::Up,
            "a dial that succeeds ends the row"
        );
        assert_eq!(up("xx"), UpstreamHealth::Down, "failed dials count as well");
        assert_eq!(
            up("x+x"),
            UpstreamHealth::Down,
            "a probe does not excuse failed dials"
        );
        assert_eq!(
            up("-o-"),
            UpstreamHealth::Down,
            "a dial does not excuse failed probes"
        );
        assert_eq!(up("-x"), UpstreamHealth::Up, "one of each is no row");
    }

    #[test]
    fn an_upstream_that_breaks_ten_connections_in_a_row_goes_down() {
        let up = |story: &str| after(HealthState::UP, story);
        assert_eq!(
            up("bbbbbbbbb"),
            UpstreamHealth::Up,
            "nine may be clients' doing"
        );
        assert_eq!(up("bbbbbbbbbb"), UpstreamHealth::Down);
        assert_eq!(
            up("bbbbbbbbbfbbbbbbbbb"),
            UpstreamHealth::Up,
            "one finished"
        );
        assert_eq!(
            up("bbbbb+o+obbbbb"),
            UpstreamHealth::Down,
            "that it accepts and answers probes excuses nothing"
        );
        assert_eq!(after(HealthState::DOWN, "ffff"), UpstreamHealth::Down);
    }

    #[test]
    fn an_upstream_that_is_down_comes_up_with_the_third_pass_in_a_row() {
        let down = |story| after(HealthState::DOWN, story);
        assert_eq!(down("++"), UpstreamHealth::Down);
        assert_eq!(
            down("++-++"),
            UpstreamHealth::Down,
            "a failure restarts the climb"
        );
        assert_eq!(down("+++"), UpstreamHealth::Up);
        assert_eq!(
            down("++o"),
            UpstreamHealth::Down,
            "only probes bring it back"
        );
        assert_eq!(
            down("++x+"),
            UpstreamHealth::Up,
            "a late failure of an old dial is no news"
        );
    }

    #[test]
    fn what_is_known_here_counts_more_than_what_is_known_elsewhere() {
        let heard = |condition: HealthState, elsewhere| condition.or(elsewhere).health();
        assert_eq!(
            heard(HealthState::UNKNOWN, UpstreamHealth::Up),
            UpstreamHealth::Up
        );
        assert_eq!(
            heard(HealthState::UNKNOWN, UpstreamHealth::Down),
            UpstreamHealth::Down
        );
        assert_eq!(
            heard(HealthState::UNKNOWN, UpstreamHealth::Unknown),
            UpstreamHealth::Unknown
        );
        assert_eq!(
            heard(HealthState::UP, UpstreamHealth::Down),
            UpstreamHealth::Up
        );
        assert_eq!(
            heard(HealthState::DOWN, UpstreamHealth::Up),
            UpstreamHealth::Down
        );
    }

    #[test]
    fn an_upstream_on_trial_goes_down_with_one_failed_dial() {
        let trial = |story| after(HealthState::half_open(THRESHOLDS), story);
        assert_eq!(trial("x"), UpstreamHealth::Down);
        assert_eq!(
            trial("ox"),
            UpstreamHealth::Up,
            "a dial that succeeds ends the trial"
        );
    }

    #[test]
    fn a_trial_ends_with_the_first_failed_dial_however_many_it_takes_otherwise() {
        let thresholds = HealthThresholds {
            fall: NonZeroU32::MAX,
            ..THRESHOLDS
        };
        let trial = HealthState::half_open(thresholds);
        let failed = trial.dialed(Observation::Failed, thresholds);
        assert_eq!(failed.health(), UpstreamHealth::Down);
    }

    #[test]
    fn health_reads_as_its_word() {
        let words = [
            UpstreamHealth::Unknown,
            UpstreamHealth::Up,
            UpstreamHealth::Down,
        ]
        .map(|health| health.to_string());
        assert_eq!(words, ["unknown", "up", "down"]);
    }
}
