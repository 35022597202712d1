//! Messages between the two processes of an upgrade.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb::{ClientDenied, Limit, Rate, UpstreamHealth};
use serde::{Deserialize, Serialize};

use crate::credentials::CredentialsMessage;
use crate::rejection::Rejection;

/// Version of the upgrade protocol. It is increased with every change that an older program would
/// misunderstand.
pub(crate) const PROTOCOL: u32 = 1;
/// Version of the set of messages. It is increased with every message that an older program does
/// not know; such a message is not sent to an older program.
pub(crate) const MESSAGE_SET: u32 = ENDS;
/// First [`MESSAGE_SET`] in which the process that serves decides about the connections of the
/// processes that drain.
pub(crate) const DECIDES: u32 = 2;
/// First [`MESSAGE_SET`] in which an old process can report that the gateway is to end
/// ([`ToNewProcess::Drain`]).
pub(crate) const ENDS: u32 = 3;

/// Messages from the old process to the new one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToNewProcess {
    /// The first message, by which the processes learn whether they understand each other
    /// ([`PROTOCOL`]).
    Hello {
        protocol: u32,
        /// True if the steering programs are handed over with the gateway.
        has_loaded: bool,
        /// Generation of the policy that is in force.
        #[serde(default)]
        generation: u64,
        /// The sender's [`MESSAGE_SET`]; 0 if it does not send it.
        #[serde(default)]
        messages: u32,
    },
    /// Purposes of listeners as text, with one descriptor for each.
    Listeners(Vec<String>),
    /// Health of upstreams, as far as it is known.
    Health(Vec<KnownHealth>),
    /// Everything has been handed over: the new process is to get ready.
    Prepare,
    /// Connections of the old process, which the new one is to count.
    Connections(Vec<ConnectionState>),
    /// One descriptor comes with this message: the socket to the first process, which stays as the
    /// parent of all later ones.
    Parent,
    /// All connections have been sent: the new process is to serve.
    Serve,
    /// The listeners are no longer open in the old process.
    ListenersClosed,
    /// Request to admit a client of the old process.
    Admit {
        connection: u64,
        client: String,
        group: String,
        #[serde(default)]
        shown: Option<CredentialsMessage>,
        /// Time that the client has waited for a slot; `None` if it may not wait. Older programs
        /// never let a client wait.
        #[serde(default)]
        waited: Option<Duration>,
    },
    /// A connection of the old process is connected to its upstream.
    Dialed {
        connection: u64,
        upstream: SocketAddr,
    },
    /// A connection of the old process has ended, or its request to be admitted is withdrawn.
    Ended { connection: u64 },
    /// The old process has no connections left; it stays as the parent of those that replace it.
    Drained,
    /// The gateway is to end: the old process received the signal before its supervisor knew of the
    /// new one.
    Drain,
}

/// Messages from the new process to the old one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToOldProcess {
    /// Everything is loaded and bound: the new process waits for the order to serve.
    Ready(ReadySummary),
    /// The new process cannot serve, for this reason.
    Failed(String),
    /// The new process serves.
    Serving,
    /// Answer to a request to admit a client.
    Verdict {
        connection: u64,
        verdict: AdmissionVerdict,
        /// Time that the client has waited for a slot; `None` if it did not have to wait.
        #[serde(default)]
        waited: Option<Duration>,
    },
    /// The old process is to read the policy again.
    Reload,
    /// The old process is to open the file of access records again.
    Reopen,
    /// The gateway as a whole is to end, within the time of a drain.
    Drain,
    /// The process that serves ends now, and the old one with it.
    End,
    /// A still newer process serves. The old process need not act if this one ends first.
    Followed,
    /// A connection whose permit was revoked is to end.
    Cut { connection: u64 },
    /// The process that served has ended unexpectedly.
    Lost { pid: u32 },
}

/// Version of a process that is ready to serve, and contents of the policy that it has read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadySummary {
    /// Version of the program.
    pub version: String,
    /// Number of the policy's groups.
    pub groups: usize,
    /// Number of the policy's clients.
    pub clients: usize,
    /// Version of the set of messages that the process knows; 0 if it does not send it.
    #[serde(default)]
    pub handover: u32,
}

/// Health of an upstream of a group, as the old process's probes have found it.
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

/// Connection of one process, with what another process needs to count it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionState {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) group: String,
    pub(crate) upstream: Option<SocketAddr>,
    /// Credentials of the client, from which the connection can be decided about. Older programs do
    /// not send them.
    #[serde(default)]
    pub(crate) credentials: Option<CredentialsMessage>,
}

/// Answer to a request to admit a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AdmissionVerdict {
    Admitted,
    /// Refused: the client has all the connections that it may have.
    Connections(NonZeroU32),
    /// Refused: the client connects more often than `events` times per `per`.
    Rate {
        events: NonZeroU32,
        per: Duration,
    },
    /// Refused: the policy does not permit the client any more, or another reason holds.
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
