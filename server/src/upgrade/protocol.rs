//! What the two processes of an upgrade tell each other.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb::{Denied, Health, Limit, Rate};
use serde::{Deserialize, Serialize};

use crate::credentials::Shown;
use crate::rejection::Rejection;

/// Counts up with every change that an older program would misunderstand.
pub(crate) const PROTOCOL: u32 = 1;
/// Counts up with every message that an older program does not know: it is not sent to those.
pub(crate) const MESSAGES: u32 = ENDS;
/// Since when the process that serves decides about the connections of those that drain.
pub(crate) const DECIDES: u32 = 2;
/// Since when a process that drains can pass on that the gateway is to end.
pub(crate) const ENDS: u32 = 3;

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHeir {
    /// First of all.
    Hello {
        protocol: u32,
        /// Whether the kernel's half goes with the gateway.
        has_loaded: bool,
        /// Which generation of the policy is in force.
        #[serde(default)]
        generation: u64,
        /// Which messages it knows.
        #[serde(default)]
        messages: u32,
    },
    /// Listeners by the text of their purpose; a descriptor comes with each.
    Listeners(Vec<String>),
    /// Groups' upstreams of which something is known.
    Health(Vec<Known>),
    /// That is all that there is to inherit: get ready.
    Prepare,
    /// Connections of the old process.
    Connections(Vec<Carried>),
    /// The socket to the process that stays as the parent of all comes with this.
    Parent,
    /// Those are all: serve.
    Serve,
    /// The listeners are no longer open in the old process.
    Left,
    /// A client of the old process wants to come in.
    Arrived {
        connection: u64,
        client: String,
        group: String,
        #[serde(default)]
        shown: Option<Shown>,
        /// How long it has waited for a place, if it may wait. Older programs have nobody wait.
        #[serde(default)]
        waited: Option<Duration>,
    },
    /// A connection of the old process has reached its upstream.
    Dialed {
        connection: u64,
        upstream: SocketAddr,
    },
    /// A connection of the old process has ended.
    Ended { connection: u64 },
    /// No connection is left; the process stays, as the parent of those that follow.
    Drained,
    /// The gateway is to end: the old process was told so before its supervisor knew of the new one.
    Drain,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToElder {
    /// Everything is loaded and bound; the only thing left to do is to serve.
    Ready(Summary),
    /// It cannot serve, and why.
    Failed(String),
    /// It serves.
    Serving,
    /// Whether a client may come in.
    Verdict {
        connection: u64,
        verdict: Verdict,
        /// How long it has waited for a place, if it had to.
        #[serde(default)]
        waited: Option<Duration>,
    },
    /// The policy is to be read again.
    Reload,
    /// The file of access records is to be opened again.
    Reopen,
    /// The gateway as a whole is to end.
    Drain,
    /// It ends now.
    End,
    /// Another process serves, which is not the old one's concern: this one may end first.
    Followed,
    /// A connection whose permit has lapsed is to end.
    Cut { connection: u64 },
    /// The process that served is gone.
    Lost { pid: u32 },
}

/// What the new process has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its version.
    pub version: String,
    /// How many groups the policy has.
    pub groups: usize,
    /// How many clients the policy has.
    pub clients: usize,
    /// Which messages of the handover it knows.
    #[serde(default)]
    pub handover: u32,
}

/// What is known about an upstream.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) group: String,
    pub(crate) upstream: SocketAddr,
    pub(crate) is_up: bool,
}

impl Known {
    pub(crate) fn health(&self) -> Health {
        if self.is_up { Health::Up } else { Health::Down }
    }
}

/// A connection as another process is to count it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carried {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) group: String,
    pub(crate) upstream: Option<SocketAddr>,
    /// What it takes to decide about it. Older programs do not tell.
    #[serde(default)]
    pub(crate) shown: Option<Shown>,
}

/// Whether a client may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Admitted,
    /// It has all the connections that it may have.
    Connections(NonZeroU32),
    /// It comes too often.
    Rate {
        events: NonZeroU32,
        per: Duration,
    },
    /// The policy no longer knows it.
    Lapsed,
}

impl Verdict {
    pub(crate) fn of<T>(result: &Result<T, Rejection>) -> Self {
        match result {
            Ok(_) => Self::Admitted,
            Err(Rejection::Limited(Denied::ClientConnections {
                limit: Limit::AtMost(most),
            })) => Self::Connections(*most),
            Err(Rejection::Limited(Denied::ClientRate { rate })) => Self::Rate {
                events: rate.events,
                per: rate.per,
            },
            Err(_) => Self::Lapsed,
        }
    }

    pub(crate) fn into_result(self) -> Result<(), Rejection> {
        let denied = match self {
            Self::Admitted => return Ok(()),
            Self::Lapsed => return Err(Rejection::Lapsed),
            Self::Connections(most) => Denied::ClientConnections { limit: most.into() },
            Self::Rate { events, per } => Denied::ClientRate {
                rate: Rate::new(events, per),
            },
        };
        Err(Rejection::Limited(denied))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_the_same_on_both_sides() {
        let two = NonZeroU32::new(2).unwrap();
        let verdicts = [
            Verdict::Admitted,
            Verdict::Lapsed,
            Verdict::Connections(two),
            Verdict::Rate {
                events: two,
                per: Duration::from_secs(1),
            },
        ];
        for verdict in verdicts {
            assert_eq!(Verdict::of(&verdict.into_result()), verdict);
        }
    }
}
