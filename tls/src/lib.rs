//! TLS 1.3 with client certificates, the server's side.
//!
//! - [`TlsSettings`]: the gateway's own certificate and the client authorities that it trusts, read
//!   from files ([`files`]).
//! - [`handshake::accept`]: a client's handshake over its socket.
//! - [`RecordLayer`](record_layer::RecordLayer): seals and opens records after the handshake. It
//!   does no input or output.
//! - [`ClientStream`](client_stream::ClientStream): a client's stream over a socket and a record
//!   layer.
//! - [`trust`] and [`identity`]: whether a client's chain holds, and the name in its certificate.
//!
//! It knows no policy, no load balancer and no gateway. What decides about a client is a
//! `ClientCertVerifier` and a `ProducesTickets` of rustls, which come from outside.
//!
//! ```
//! use certgen::{Authority, AuthoritySpec, Overwrite};
//! use rustls_pki_types::UnixTime;
//! use tls::TlsSettings;
//! use tls::files::{ExpiredLists, SettingsFiles};
//!
//! let dir = tempfile::tempdir()?;
//! let authority = Authority::new(&AuthoritySpec::default())?;
//! authority.save(dir.path(), Overwrite::Refuse)?;
//! let own = authority.server(&["gateway.example.test"])?;
//! own.save(dir.path(), "server", Overwrite::Refuse)?;
//! let files = SettingsFiles {
//!     certificate: dir.path().join("server.crt"),
//!     key: dir.path().join("server.key"),
//!     client_ca: dir.path().join("ca.crt"),
//!     lists: Vec::new(),
//!     expired_lists: ExpiredLists::Refuse,
//! };
//! let settings = TlsSettings::load(&files, UnixTime::now()).expect("what was just saved");
//!
//! let billing = authority.client("billing")?.certificate_der();
//! let client = settings.identify(&billing, &[], UnixTime::now())?;
//! assert_eq!(client.claim().common_name(), "billing");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

pub mod claimed_certificate;
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it moves bytes between the record layer and the client's socket"
)]
pub mod client_stream;
pub mod dated_item;
pub mod expiry;
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
pub mod reported_notices;
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

pub use faults::{TlsError, TlsFault};
pub use settings::{IdentifiedClient, IdentifyError, TlsSettings};
pub use socket::{linger, reset};
pub use suites::CipherOrder;
