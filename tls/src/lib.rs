//! TLS 1.3 with client certificates, the server's side.
//!
//! - [`TlsSettings`]: the gateway's own certificate and the client authorities that it trusts, read
//!   from files ([`files`]).
//! - [`handshake::accept`]: a client's handshake over its socket.
//! - [`RecordLayer`](record_layer::RecordLayer): seals and opens records after the handshake. It does
//!   no input or output.
//! - [`ClientStream`](client_stream::ClientStream): a client's stream over a socket and a record
//!   layer.
//! - [`trust`] and [`identity`]: whether a client's chain holds, and the name in its certificate.
//!
//! It knows no policy, no load balancer and no gateway. What decides about a client is a
//! `ClientCertVerifier` and a `ProducesTickets` of rustls, which come from outside.

#![forbid(unsafe_code)]

#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it moves bytes between the record layer and the client's socket"
)]
pub mod client_stream;
mod faults;
pub mod files;
pub mod first_bytes;
#[expect(
    clippy::disallowed_types,
    reason = "it speaks with the client over its socket"
)]
pub mod handshake;
pub mod hello_limits;
pub mod identity;
mod own_certificate;
pub mod record_layer;
mod settings;
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it closes the client's socket, with a deadline"
)]
mod socket;
mod suites;
pub mod ticket;
pub mod tls_messages;
pub mod trust;

pub use {
    faults::{TlsError, TlsFault},
    settings::{IdentifiedClient, IdentifyError, TlsSettings},
    socket::{linger, reset},
    suites::CipherOrder,
};
