//! What the two processes of an upgrade tell each other.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb::{ClientDenied, Limit, Rate, UpstreamHealth};
use serde::{Deserialize, Serialize};

use crate::credentials::CredentialsMessage;
use crate::rejection::Rejection;

/// Counts up with every change that an older program would misunderstand.
pub(crate) const PROTOCOL: u32 = 1;
/// Counts up with every message that an older program does not know: it is not sent to those.
pub(crate) const MESSAGE_SET: u32 = ENDS;
/// Since when the process that serves decides about the connections of those that drain.
pub(crate) const DECIDES: u32 = 2;
/// Since when an old process can pass on that the gateway is to end.
pub(crate) const ENDS: u32 = 3;

/// What the old process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToNewProcess {
    /// First of all.
    Hello {
        protocol: u32,
        /// Whether steering goes with the gateway.
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
    Health(Vec<KnownHealth>),
    /// That is all that there is to inherit: get ready.
    Prepare,
    /// Connections of the old process.
    Connections(Vec<ConnectionState>),
    /// The socket to the process that stays as the parent of all comes with this.
    Parent,
    /// Those are all: serve.
    Serve,
    /// The listeners are no longer open in the old process.
    ListenersClosed,
    /// A client of the old process asks to be admitted.
    Admit {
        connection: u64,
        client: String,
        group: String,
        #[serde(default)]
        shown: Option<CredentialsMessage>,
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
    /// No connection is left; the process stays, as the parent of those that replace it.
    Drained,
    /// The gateway is to end: the old process was told so before its supervisor knew of the new one.
    Drain,
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToOldProcess {
    /// Everything is loaded and bound; the only thing left to do is to serve.
    Ready(ReadySummary),
    /// It cannot serve, and why.
    Failed(String),
    /// It serves.
    Serving,
    /// Whether a client is admitted.
    Verdict {
        connection: u64,
        verdict: AdmissionVerdict,
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
    /// A connection whose permit was revoked is to end.
    Cut { connection: u64 },
    /// The process that served is gone.
    Lost { pid: u32 },
}

/// What the new process has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadySummary {
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
pub(crate) struct KnownHealth {
    pub(crate) group: String,
    pub(crate) upstream: SocketAddr,
    pub(crate) is_up: bool,
}

impl KnownHealth {
    pub(crate) fn health(&self) -> UpstreamHealth {
        if self.is_up {
            UpstreamHealth::Up
        } else {
            UpstreamHealth::Down
        }
    }
}

/// A connection as another process is to count it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionState {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) group: String,
    pub(crate) upstream: Option<SocketAddr>,
    /// What it takes to decide about it. Older programs do not tell.
    #[serde(default)]
    pub(crate) credentials: Option<CredentialsMessage>,
}

/// Whether a client is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AdmissionVerdict {
    Admitted,
    /// It has all the connections that it may have.
    Connections(NonZeroU32),
    /// It comes too often.
    Rate {
        events: NonZeroU32,
        per: Duration,
    },
    /// The policy no longer knows it.
    Revoked,
}

impl AdmissionVerdict {
    pub(crate) fn of<T>(result: &Result<T, Rejection>) -> Self {
        match result {
            Ok(_) => Self::Admitted,
            Err(Rejection::Limited(ClientDenied::ClientConnections {
                limit: Limit::AtMost(most),
            })) => Self::Connections(*most),
            Err(Rejection::Limited(ClientDenied::ClientRate { rate })) => Self::Rate {
                events: rate.events,
                per: rate.per,
            },
            Err(_) => Self::Revoked,
        }
    }

    pub(crate) fn into_result(self) -> Result<(), Rejection> {
        let denied = match self {
            Self::Admitted => return Ok(()),
            Self::Revoked => return Err(Rejection::Revoked),
            Self::Connections(most) => ClientDenied::ClientConnections { limit: most.into() },
            Self::Rate { events, per } => ClientDenied::ClientRate {
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
            AdmissionVerdict::Admitted,
            AdmissionVerdict::Revoked,
            AdmissionVerdict::Connections(two),
            AdmissionVerdict::Rate {
                events: two,
                per: Duration::from_secs(1),
            },
        ];
        for verdict in verdicts {
            assert_eq!(AdmissionVerdict::of(&verdict.into_result()), verdict);
        }
    }
}
