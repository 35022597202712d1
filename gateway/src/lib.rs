//! The data plane of a gateway: what happens to a client from its first packet to its record.
//!
//! - [`Gateway`]: the start, the changes and the end of a gateway, with its listeners and steering.
//! - [`SharedState`](shared_state::SharedState): what its workers share. Workers accept
//!   connections; a connection does its handshake, is admitted, relays, and leaves a record.
//! - [`GatewaySnapshot`](snapshot::GatewaySnapshot): what decides about connections at one moment;
//!   it mints the [`Permit`](snapshot::Permit) without which nothing is dialed.
//! - [`LoadedPolicy`](loaded_policy::LoadedPolicy): what it takes from the process around it.
//! - [`RemoteAdmission`](remote_admission::RemoteAdmission) and
//!   [`RemoteConnections`](remote_connections::RemoteConnections): one process of a gateway admits
//!   the clients of another.
//!
//! It reads no file and knows no command line, no signals and no admin socket.

#![forbid(unsafe_code)]

pub mod access_record;
mod address;
mod admission;
pub mod admission_wait;
mod balancer_config;
pub mod client_identity;
pub mod client_refusal;
mod connection;
pub mod connection_event;
pub mod connection_table;
pub mod credentials;
mod expiry;
mod gateway;
mod handshake_failures;
pub mod known_health;
pub mod limits;
mod listen_socket;
pub mod listeners;
pub mod loaded_policy;
pub mod pending_reload;
pub mod proxy_header;
mod quota;
pub mod rejection;
pub mod remote_admission;
pub mod remote_connections;
pub mod shared_state;
pub mod snapshot;
mod source_bans;
mod standby;
pub mod steering;
#[cfg(test)]
mod test_support;
pub mod tls_files;
mod tls_probe;
pub mod verifier;
mod worker;
mod worker_load;

pub use gateway::{Gateway, GatewayStartError, PreparedGateway, WorkerThreads, reload};
