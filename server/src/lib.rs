//! Portcullis: a gateway for TCP services.
//!
//! A client's certificate names the client, SNI names the service, the policy decides about access,
//! number of connections and rate, and the least-loaded healthy upstream gets the connection.
#![forbid(unsafe_code)]

pub use admin;
pub use gateway;
pub use gateway::{
    access_record, client_identity, connection_event, connection_table, credentials, known_health,
    limits, listeners, loaded_policy, pending_reload, proxy_header, rejection, remote_admission,
    remote_connections, shared_state, snapshot, steering, tls_files, verifier,
};
use host::{
    fd_limit, file, file_watch, inherited_listeners, log_writer, priority, program, systemd,
};
pub use policy;
pub use tls::{
    self, client_stream, first_bytes, hello_limits, identity, record_layer, tls_messages, trust,
};

pub mod check;
pub mod command;
pub mod demo;
pub mod load;
pub mod policy_warning;
pub mod run;
mod table;
#[cfg(test)]
#[path = "../../gateway/src/test_support.rs"]
#[expect(dead_code, reason = "tests of the process need the files alone")]
mod test_support;
pub mod upgrade;
