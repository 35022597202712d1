//! Health of an upstream that one process of a gateway tells another.

use std::net::SocketAddr;

use lb::UpstreamHealth;
use serde::{Deserialize, Serialize};

/// Health of an upstream of a group, as the old process's probes have found it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHealth {
    pub(crate) group: String,
    pub(crate) upstream: SocketAddr,
    pub(crate) is_up: bool,
}

impl KnownHealth {
    pub(crate) fn health(&self) -> UpstreamHealth {
        if self.is_up {
            UpstreamHealth::Up
        } else {
            UpstreamHealth::Down
        }
    }
}
