//! Portcullis: a gateway for TCP services.
//!
//! A client's certificate names the client, SNI names the service, the policy decides about access,
//! rate and bandwidth, and the least-loaded healthy upstream gets the connection.
#![forbid(unsafe_code)]

use host::{
    affinity, fd_limit, file, file_watch, inherited_listeners, log_writer, memory_gauge, priority,
    program, systemd,
};
pub use policy;
pub use tls::{
    self, client_stream, first_bytes, hello_limits, identity, record_layer, tls_messages, trust,
};
use tls::{handshake, ticket};

pub mod access_record;
mod address;
pub mod admin;
mod admission;
mod admission_wait;
pub mod balancer_config;
pub mod check;
pub mod client_identity;
pub mod client_refusal;
pub mod command;
mod connection;
mod connection_event;
pub mod connection_table;
mod credentials;
pub mod demo;
pub mod expiry;
pub mod gateway;
mod handshake_failures;
mod heartbeat;
mod known_health;
pub mod limits;
mod listen_socket;
pub mod listeners;
pub mod load;
pub mod loaded_policy;
pub mod pending_reload;
pub mod policy_warning;
pub mod proxy_header;
mod quota;
mod record_sampling;
pub mod rejection;
mod remote_admission;
mod remote_connections;
pub mod run;
pub mod shared_state;
pub mod snapshot;
mod source_bans;
mod standby;
pub mod steering;
mod table;
#[cfg(test)]
mod test_support;
pub mod tls_files;
pub mod tls_probe;
pub mod upgrade;
pub mod verifier;
pub mod worker;
mod worker_load;

pub use peer::budget;
