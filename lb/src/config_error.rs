//! Checks of a group's configuration, and the errors of a refused one.

use std::ops::RangeInclusive;
use std::time::Duration;

use thiserror::Error;

use crate::group_config::{DialConfig, GroupConfig, HealthConfig, RelayConfig};
use crate::limit::SharedName;

/// Longest time that a setting may have, so that no sum of two overflows: a hundred years.
pub const LONGEST_TIME: Duration = Duration::from_hours(100 * 366 * 24);

/// Range of times that must not be zero: from 1 ms, the shortest time that a timer can tell from
/// none, to [`LONGEST_TIME`].
const SOME_TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST_TIME;

/// Error of a refused configuration of a group. Nothing has changed then.
///
/// ```
/// use std::time::Duration;
///
/// use lb::{ConfigFault, GroupConfig};
///
/// let mut group = GroupConfig::new("ledger", Vec::new());
/// group.dial.connect = Duration::ZERO;
/// let refused = group.check().unwrap_err();
/// assert_eq!(&*refused.group, "ledger");
/// assert!(matches!(refused.fault, ConfigFault::Time { setting: "dial.connect", .. }));
/// ```
#[derive(Debug, Clone, PartialEq, Error)]
#[error("group `{group}`: {fault}")]
pub struct ConfigError {
    /// Name of the group.
    pub group: SharedName,
    /// Fault of its configuration.
    pub fault: ConfigFault,
}

/// Fault in a group's configuration.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// A time is outside the range that timers take: 1 ms to [`LONGEST_TIME`].
    #[error("`{setting}` is {found:?}; expected {:?} to {:?}", SOME_TIME.start(), SOME_TIME.end())]
    Time {
        /// Name of the setting, as in [`GroupConfig`]: `relay.idle`, for example.
        setting: &'static str,
        /// Value of the setting.
        found: Duration,
    },
    /// An upstream is to change in a group that does not exist.
    #[error("no such group")]
    NoGroup,
    /// A share is not between 0 and 1.
    #[error("`{setting}` is {found}; expected 0 to 1")]
    Share {
        /// Name of the setting, as in [`GroupConfig`]: `health.jitter`, for example.
        setting: &'static str,
        /// Value of the setting.
        found: f64,
    },
}

impl GroupConfig {
    /// Checks the times and shares of the configuration.
    ///
    /// # Errors
    ///
    /// The first setting whose value is out of range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Self {
            name,
            health,
            dial,
            relay,
            slow_start,
            ..
        } = self;
        let checked = if_any("slow_start", *slow_start)
            .and_then(|()| check_health(health))
            .and_then(|()| check_dial(dial))
            .and_then(|()| check_relay(relay));
        checked.map_err(|fault| ConfigError {
            group: SharedName::clone(name),
            fault,
        })
    }
}

fn check_health(health: &HealthConfig) -> Result<(), ConfigFault> {
    time("health.interval", health.interval)?;
    time("health.timeout", health.timeout)?;
    share("health.jitter", health.jitter)
}

fn check_dial(dial: &DialConfig) -> Result<(), ConfigFault> {
    time("dial.connect", dial.connect)?;
    time("dial.budget", dial.budget)
}

fn check_relay(relay: &RelayConfig) -> Result<(), ConfigFault> {
    let limits = [
        ("relay.idle", relay.idle),
        ("relay.half_closed", relay.half_closed),
        ("relay.stall", relay.stall),
        ("relay.lifetime", relay.lifetime),
        ("relay.keepalive", Some(relay.keepalive)),
    ];
    for (setting, limit) in limits {
        limit.map_or(Ok(()), |limit| time(setting, limit))?;
    }
    share("relay.lifetime_jitter", relay.lifetime_jitter)
}

fn time(setting: &'static str, found: Duration) -> Result<(), ConfigFault> {
    let fits = SOME_TIME.contains(&found);
    fits.then_some(())
        .ok_or(ConfigFault::Time { setting, found })
}

fn if_any(setting: &'static str, found: Duration) -> Result<(), ConfigFault> {
    if found.is_zero() {
        return Ok(());
    }
    time(setting, found)
}

fn share(setting: &'static str, found: f64) -> Result<(), ConfigFault> {
    let fits = (0.0..=1.0).contains(&found);
    fits.then_some(())
        .ok_or(ConfigFault::Share { setting, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_group_the_setting_and_what_it_can_be() {
        let group = |health: HealthConfig| GroupConfig {
            health,
            ..GroupConfig::new("ledger", Vec::new())
        };
        assert_eq!(group(HealthConfig::default()).check(), Ok(()));
        let interval = Duration::ZERO;
        let refused = group(HealthConfig {
            interval,
            ..HealthConfig::default()
        });
        assert_eq!(
            refused.check().unwrap_err().to_string(),
            "group `ledger`: `health.interval` is 0ns; expected 1ms to 3162240000s"
        );
        let jitter = f64::NAN;
        let refused = group(HealthConfig {
            jitter,
            ..HealthConfig::default()
        });
        assert_eq!(
            refused.check().unwrap_err().to_string(),
            "group `ledger`: `health.jitter` is NaN; expected 0 to 1"
        );
    }

    #[test]
    fn no_time_and_no_share_can_be_what_no_timer_takes() {
        type Set = fn(&mut GroupConfig, Duration);
        let nanosecond = Duration::from_nanos(1);
        let settings: [(&str, Set); 10] = [
            ("slow_start", |group, time| group.slow_start = time),
            ("health.interval", |group, time| {
                group.health.interval = time;
            }),
            ("health.timeout", |group, time| group.health.timeout = time),
            ("dial.connect", |group, time| group.dial.connect = time),
            ("dial.budget", |group, time| group.dial.budget = time),
            ("relay.idle", |group, time| group.relay.idle = Some(time)),
            ("relay.half_closed", |group, time| {
                group.relay.half_closed = Some(time);
            }),
            ("relay.stall", |group, time| group.relay.stall = Some(time)),
            ("relay.lifetime", |group, time| {
                group.relay.lifetime = Some(time);
            }),
            ("relay.keepalive", |group, time| {
                group.relay.keepalive = time;
            }),
        ];
        for (setting, set) in settings {
            let with = |time| {
                let mut group = GroupConfig::new("ledger", Vec::new());
                set(&mut group, time);
                group.check().map_err(|refused| refused.fault)
            };
            assert_eq!(with(*SOME_TIME.start()), Ok(()), "{setting}");
            assert_eq!(with(LONGEST_TIME), Ok(()), "{setting}");
            for found in [nanosecond, LONGEST_TIME + nanosecond] {
                let fault = ConfigFault::Time { setting, found };
                assert_eq!(with(found), Err(fault), "{setting}");
            }
        }
        let mut group = GroupConfig::new("ledger", Vec::new());
        group.slow_start = Duration::ZERO;
        assert_eq!(group.check(), Ok(()), "newcomers get no start of their own");
        group.relay.lifetime_jitter = 1.5;
        let setting = "relay.lifetime_jitter";
        let fault = ConfigFault::Share {
            setting,
            found: 1.5,
        };
        assert_eq!(group.check().unwrap_err().fault, fault);
    }
}
