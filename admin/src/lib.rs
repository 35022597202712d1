//! The admin socket, by which operators control the running gateway: HTTP with JSON (RFC 9112, RFC
//! 8259), so that `curl --unix-socket` is a client too.
//!
//! It has the socket's server ([`AdminSocket`]), its client ([`read`] and [`ask`]), and the types
//! of the requests and answers, with their tables. What a request does is behind the trait
//! [`GatewayControl`]: this crate knows no gateway, no policy and no TLS.

#![forbid(unsafe_code)]

mod answer;
mod client;
mod clients;
mod control;
mod error;
mod groups;
#[cfg(test)]
mod openapi;
mod routes;
mod server;
mod status;
mod tables;
mod upgrade_request;

pub use client::{AskError, ask, read};
pub use clients::{ClientReport, ClientsReport};
pub use control::GatewayControl;
pub use error::{AdminError, ErrorReport};
pub use groups::{GroupReport, GroupsReport, UpstreamReport, UpstreamsReport};
pub use server::AdminSocket;
pub use status::{ConnectionCounts, ReloadStatus, StatusReport};
pub use tables::{ClientsTable, GroupsTable, StatusLines, UpstreamsTable};
pub use upgrade_request::{ReadySummary, USUAL_TIMEOUT, UpgradeReport, UpgradeRequest};
