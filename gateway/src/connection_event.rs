//! Events of connections, and the answers to them: one process of a gateway counts the connections
//! of another by them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use lb::{ClientDenied, Limit, Rate};
use serde::{Deserialize, Serialize};

use crate::credentials::CredentialsMessage;
use crate::rejection::Rejection;

/// Connection of one process, with what another process needs to count it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionState {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) group: String,
    pub(crate) upstream: Option<SocketAddr>,
    /// Credentials of the client, from which the connection can be decided about. Older programs do
    /// not send them.
    #[serde(default)]
    pub(crate) credentials: Option<CredentialsMessage>,
}

/// Event of a connection, which its process reports to the process that counts it.
#[derive(Debug, Serialize, Deserialize)]
pub enum ConnectionEvent {
    /// Its client has authenticated itself and asks to be admitted.
    #[serde(rename = "Admit")]
    Arrived {
        /// Number of the connection in its process.
        connection: u64,
        /// Name of the client.
        client: String,
        /// Name of the group that the client may reach.
        group: String,
        /// Credentials of the client. Older programs do not send them.
        #[serde(default, rename = "shown")]
        credentials: Option<CredentialsMessage>,
        /// Time that the client has waited for a slot; `None` if it may not wait. Older programs
        /// never let a client wait.
        #[serde(default)]
        waited: Option<Duration>,
    },
    /// It is connected to its upstream.
    Dialed {
        /// Number of the connection in its process.
        connection: u64,
        /// Address of the upstream.
        upstream: SocketAddr,
    },
    /// It has ended, or its request to be admitted is withdrawn.
    Ended {
        /// Number of the connection in its process.
        connection: u64,
    },
}

/// Answer to [`ConnectionEvent::Arrived`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionAnswer {
    /// Number of the connection in the process that asks.
    pub connection: u64,
    /// Decision about its client.
    pub verdict: AdmissionVerdict,
    /// Time that the client has waited for a slot; `None` if it did not have to wait.
    #[serde(default)]
    pub waited: Option<Duration>,
}

/// Decision about a client that asks to be admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdmissionVerdict {
    /// The client is admitted.
    Admitted,
    /// Refused: the client has all the connections that it may have.
    Connections(NonZeroU32),
    /// Refused: the client connects more often than `events` times per `per`.
    Rate {
        /// Number of connections that the client may begin in the time `per`.
        events: NonZeroU32,
        /// Time that the number is for.
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
