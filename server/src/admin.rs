//! The admin socket, by which operators control the running gateway: HTTP with JSON (RFC 9112, RFC
//! 8259), so that `curl --unix-socket` is a client too.

mod client;
mod error;
mod server;
mod upgrade_request;

pub use client::{AskError, ask};
pub use error::AdminError;
pub use server::{AdminSocket, PendingRequest};
pub use upgrade_request::{USUAL_TIMEOUT, UpgradeReport, UpgradeRequest};
