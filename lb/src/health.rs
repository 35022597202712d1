//! Up or down, and what moves it.

use std::{fmt, num::NonZeroU32};

/// What is known about an upstream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Health {
    /// Nothing yet; it takes no connection.
    Unknown,
    /// It takes connections.
    Up,
    /// It failed; it takes no connection.
    Down,
}

impl Health {
    /// The word for it, as in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for Health {
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
pub(crate) struct Thresholds {
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
pub(crate) enum Condition {
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

impl Condition {
    pub(crate) const UNKNOWN: Self = Self::Unknown { failures: 0 };
    pub(crate) const UP: Self = Self::Up {
        probes: 0,
        dials: 0,
        breaks: 0,
    };
    pub(crate) const DOWN: Self = Self::Down { passes: 0 };

    /// Up, but down again with the next failed dial.
    pub(crate) fn on_trial(thresholds: Thresholds) -> Self {
        Self::Up {
            probes: 0,
            dials: thresholds.fall.get() - 1,
            breaks: 0,
        }
    }

    /// What is known, or else what somebody else knows.
    pub(crate) fn or(self, elsewhere: Health) -> Self {
        match (self, elsewhere) {
            (Self::Unknown { .. }, Health::Up) => Self::UP,
            (Self::Unknown { .. }, Health::Down) => Self::DOWN,
            (Self::Unknown { .. }, Health::Unknown) | (Self::Up { .. } | Self::Down { .. }, _) => {
                self
            }
        }
    }

    pub(crate) fn health(self) -> Health {
        match self {
            Self::Unknown { .. } => Health::Unknown,
            Self::Up { .. } => Health::Up,
            Self::Down { .. } => Health::Down,
        }
    }

    /// The condition after one probe.
    ///
    /// The first pass brings an unknown upstream up: `rise` holds back one that was seen to fail, and
    /// a newcomer was not. (Envoy does so too.) Its failures are counted, since it may be starting.
    pub(crate) fn probed(self, probe: Observation, Thresholds { rise, fall }: Thresholds) -> Self {
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
    pub(crate) fn dialed(self, dial: Observation, Thresholds { fall, .. }: Thresholds) -> Self {
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
    pub(crate) fn relayed(self, relay: Observation, Thresholds { fall, .. }: Thresholds) -> Self {
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

    const THRESHOLDS: Thresholds = Thresholds {
        rise: NonZeroU32::new(3).unwrap(),
        fall: NonZeroU32::new(2).unwrap(),
    };

    /// `+` and `-` are probes, `o` and `x` dials that succeeded and failed, `f` and `b` relays that
    /// finished and broke; rise 3, fall 2.
    fn after(start: Condition, story: &str) -> Health {
        let step = |condition: Condition, sign| match sign {
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
        let fresh = |story| after(Condition::UNKNOWN, story);
        assert_eq!(fresh(""), Health::Unknown);
        assert_eq!(fresh("+"), Health::Up);
        assert_eq!(fresh("-"), Health::Unknown, "one failure is no verdict");
        assert_eq!(fresh("-+"), Health::Up, "it was starting");
        assert_eq!(
            fresh("--"),
            Health::Down,
            "the second failure in a row takes it down"
        );
        assert_eq!(fresh("--+"), Health::Down, "now it must pass three times");
        assert_eq!(
            fresh("xxooo"),
            Health::Unknown,
            "dials say nothing about the unknown"
        );
    }

    #[test]
    fn an_upstream_that_is_up_goes_down_with_the_second_failure_in_a_row() {
        let up = |story| after(Condition::UP, story);
        assert_eq!(up("-+-+-"), Health::Up, "scattered failures never add up");
        assert_eq!(up("--"), Health::Down);
        assert_eq!(up("xoxox"), Health::Up, "a dial that succeeds ends the row");
        assert_eq!(up("xx"), Health::Down, "failed dials count as well");
        assert_eq!(
            up("x+x"),
            Health::Down,
            "a probe does not excuse failed dials"
        );
        assert_eq!(
            up("-o-"),
            Health::Down,
            "a dial does not excuse failed probes"
        );
        assert_eq!(up("-x"), Health::Up, "one of each is no row");
    }

    #[test]
    fn an_upstream_that_breaks_ten_connections_in_a_row_goes_down() {
        let up = |story: &str| after(Condition::UP, story);
        assert_eq!(up("bbbbbbbbb"), Health::Up, "nine may be clients' doing");
        assert_eq!(up("bbbbbbbbbb"), Health::Down);
        assert_eq!(up("bbbbbbbbbfbbbbbbbbb"), Health::Up, "one finished");
        assert_eq!(
            up("bbbbb+o+obbbbb"),
            Health::Down,
            "that it accepts and answers probes excuses nothing"
        );
        assert_eq!(after(Condition::DOWN, "ffff"), Health::Down);
    }

    #[test]
    fn an_upstream_that_is_down_comes_up_with_the_third_pass_in_a_row() {
        let down = |story| after(Condition::DOWN, story);
        assert_eq!(down("++"), Health::Down);
        assert_eq!(down("++-++"), Health::Down, "a failure restarts the climb");
        assert_eq!(down("+++"), Health::Up);
        assert_eq!(down("++o"), Health::Down, "only probes bring it back");
        assert_eq!(
            down("++x+"),
            Health::Up,
            "a late failure of an old dial is no news"
        );
    }

    #[test]
    fn what_is_known_here_counts_more_than_what_is_known_elsewhere() {
        let heard = |condition: Condition, elsewhere| condition.or(elsewhere).health();
        assert_eq!(heard(Condition::UNKNOWN, Health::Up), Health::Up);
        assert_eq!(heard(Condition::UNKNOWN, Health::Down), Health::Down);
        assert_eq!(heard(Condition::UNKNOWN, Health::Unknown), Health::Unknown);
        assert_eq!(heard(Condition::UP, Health::Down), Health::Up);
        assert_eq!(heard(Condition::DOWN, Health::Up), Health::Down);
    }

    #[test]
    fn an_upstream_on_trial_goes_down_with_one_failed_dial() {
        let trial = |story| after(Condition::on_trial(THRESHOLDS), story);
        assert_eq!(trial("x"), Health::Down);
        assert_eq!(
            trial("ox"),
            Health::Up,
            "a dial that succeeds ends the trial"
        );
    }

    #[test]
    fn a_trial_ends_with_the_first_failed_dial_however_many_it_takes_otherwise() {
        let thresholds = Thresholds {
            fall: NonZeroU32::MAX,
            ..THRESHOLDS
        };
        let trial = Condition::on_trial(thresholds);
        let failed = trial.dialed(Observation::Failed, thresholds);
        assert_eq!(failed.health(), Health::Down);
    }

    #[test]
    fn health_reads_as_its_word() {
        let words = [Health::Unknown, Health::Up, Health::Down].map(|health| health.to_string());
        assert_eq!(words, ["unknown", "up", "down"]);
    }
}
