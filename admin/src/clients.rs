//! The answer to `GET /clients`.

use serde::{Deserialize, Serialize};

/// The clients of the policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ClientsReport {
    /// Generation of the policy in force.
    pub generation: u64,
    /// The clients, by name.
    pub clients: Vec<ClientReport>,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ClientReport {
    /// Name of the client: the common name of its certificate.
    pub name: String,
    /// Groups that it may reach.
    pub groups: Vec<String>,
    /// Number of its open connections, those of old processes included.
    pub connections: u32,
    /// Largest number of its open connections; `null` if there is no limit.
    pub max_connections: Option<u32>,
    /// Number of its connections that wait for one of the open ones to end.
    pub waiting: usize,
    /// Largest rate of new connections, such as `5/s`; `null` if there is no limit.
    pub rate: Option<String>,
    /// First end of a certificate in the chains of its open connections, in RFC 3339; `null` if
    /// this process has no connection of it.
    pub certificate_ends: Option<String>,
}
