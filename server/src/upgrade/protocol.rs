//! Messages between the two processes of an upgrade.

use serde::{Deserialize, Serialize};

use crate::connection_event::{AdmissionAnswer, ConnectionEvent, ConnectionState};
use crate::known_health::KnownHealth;

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
    /// The old process has no connections left; it stays as the parent of those that replace it.
    Drained,
    /// The gateway is to end: the old process received the signal before its supervisor knew of the
    /// new one.
    Drain,
    /// Something has happened to a connection of the old process.
    #[serde(untagged)]
    Connection(ConnectionEvent),
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
    Verdict(AdmissionAnswer),
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
