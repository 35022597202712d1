//! Messages between the two processes of an upgrade. Each direction has one type for each stage:
//! the setup of the new process, the handover of the connections, and from then on the events of
//! the old process and the commands of the new one. A receiver treats a message of another stage as
//! an error.
//!
//! The encoding of a message is the same in all versions ([`PROTOCOL`]).

use admin::ReadySummary;
use serde::{Deserialize, Serialize};

use gateway::connection_event::{AdmissionAnswer, ConnectionEvent, ConnectionState};
use gateway::known_health::KnownHealth;

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
/// ([`EventMessage::Drain`]).
pub(crate) const ENDS: u32 = 3;

/// Message from the old process to the new one, before the new one is asked to get ready.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SetupMessage {
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
}

/// Answer of the new process to [`SetupMessage::Prepare`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SetupAnswer {
    /// Everything is loaded and bound: the new process waits for the order to serve.
    Ready(ReadySummary),
    /// The new process cannot serve, for this reason.
    Failed(String),
}

/// Message from the old process to the new one that is ready, until that is to serve.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HandoverMessage {
    /// Connections of the old process, which the new one is to count.
    Connections(Vec<ConnectionState>),
    /// One descriptor comes with this message: the socket to the first process, which stays as the
    /// parent of all later ones.
    Parent,
    /// All connections have been sent: the new process is to serve.
    Serve,
}

/// Answer of the new process to [`HandoverMessage::Serve`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HandoverAnswer {
    /// The new process serves.
    Serving,
    /// The new process cannot serve, for this reason. The text is that of [`SetupAnswer::Failed`].
    Failed(String),
}

/// Message from the old process to the new one that serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum EventMessage {
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

/// Message from the new process that serves to the old one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum CommandMessage {
    /// Answer to a request to admit a client.
    Verdict(AdmissionAnswer),
    /// A connection whose permit was revoked is to end.
    Cut { connection: u64 },
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
    /// The process that served has ended unexpectedly.
    Lost { pid: u32 },
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;
    use std::time::Duration;

    use serde::de::DeserializeOwned;

    use super::*;
    use gateway::connection_event::AdmissionVerdict;

    /// Requires that the texts are read, and written again as they are.
    fn stays_as_it_is<T: Serialize + DeserializeOwned + Debug>(texts: &[&str]) {
        for text in texts {
            let message: T = serde_json::from_str(text).unwrap();
            assert_eq!(
                &serde_json::to_string(&message).unwrap(),
                text,
                "{message:?}"
            );
        }
    }

    #[test]
    fn a_message_has_the_text_that_older_and_newer_programs_read() {
        stays_as_it_is::<SetupMessage>(&[
            r#"{"Hello":{"protocol":1,"has_loaded":false,"generation":7,"messages":3}}"#,
            r#"{"Listeners":["tcp 127.0.0.1:1"]}"#,
            r#"{"Health":[{"group":"db","upstream":"127.0.0.1:1","is_up":true}]}"#,
            r#""Prepare""#,
        ]);
        let ready = r#"{"version":"0.1.0","groups":1,"clients":2,"handover":3}"#;
        let failed = r#"{"Failed":"no certificate"}"#;
        stays_as_it_is::<SetupAnswer>(&[&format!(r#"{{"Ready":{ready}}}"#), failed]);
        stays_as_it_is::<HandoverMessage>(&[
            r#"{"Connections":[{"connection":1,"client":"alice","group":"db","upstream":null,"credentials":null}]}"#,
            r#""Parent""#,
            r#""Serve""#,
        ]);
        stays_as_it_is::<HandoverAnswer>(&[r#""Serving""#, failed]);
        stays_as_it_is::<EventMessage>(&[
            r#""ListenersClosed""#,
            r#""Drained""#,
            r#""Drain""#,
            r#"{"Admit":{"connection":1,"client":"alice","group":"db","shown":{"chain":["00"],"sni":"db","port":1},"waited":{"secs":1,"nanos":2}}}"#,
            r#"{"Dialed":{"connection":18446744073709551615,"upstream":"[::1]:1"}}"#,
            r#"{"Ended":{"connection":1}}"#,
        ]);
        stays_as_it_is::<CommandMessage>(&[
            r#"{"Verdict":{"connection":1,"verdict":"Admitted","waited":null}}"#,
            r#"{"Verdict":{"connection":1,"verdict":{"Connections":2},"waited":null}}"#,
            r#"{"Verdict":{"connection":1,"verdict":{"Rate":{"events":2,"per":{"secs":1,"nanos":0}}},"waited":null}}"#,
            r#"{"Cut":{"connection":1}}"#,
            r#""Reload""#,
            r#""Reopen""#,
            r#""Drain""#,
            r#""End""#,
            r#""Followed""#,
            r#"{"Lost":{"pid":1}}"#,
        ]);
    }

    #[test]
    fn what_an_older_program_leaves_out_has_its_default() {
        let hello = r#"{"Hello":{"protocol":1,"has_loaded":true}}"#;
        assert!(matches!(
            serde_json::from_str(hello).unwrap(),
            SetupMessage::Hello {
                generation: 0,
                messages: 0,
                has_loaded: true,
                ..
            }
        ));
        let arrived = r#"{"Admit":{"connection":1,"client":"alice","group":"db"}}"#;
        assert!(matches!(
            serde_json::from_str(arrived).unwrap(),
            EventMessage::Connection(ConnectionEvent::Arrived {
                credentials: None,
                waited: None,
                ..
            })
        ));
        let verdict = r#"{"Verdict":{"connection":1,"verdict":"Revoked"}}"#;
        let CommandMessage::Verdict(answer) = serde_json::from_str(verdict).unwrap() else {
            panic!("not a verdict");
        };
        assert_eq!(
            (answer.verdict, answer.waited),
            (AdmissionVerdict::Revoked, None::<Duration>)
        );
    }

    #[test]
    fn a_message_of_another_stage_is_an_error() {
        assert!(serde_json::from_str::<SetupMessage>(r#""Serve""#).is_err());
        assert!(serde_json::from_str::<HandoverMessage>(r#""Prepare""#).is_err());
        assert!(serde_json::from_str::<EventMessage>(r#""Serve""#).is_err());
        assert!(serde_json::from_str::<SetupAnswer>(r#""Serving""#).is_err());
        assert!(serde_json::from_str::<HandoverAnswer>(r#""Reload""#).is_err());
        assert!(serde_json::from_str::<CommandMessage>(r#""Serving""#).is_err());
    }
}
