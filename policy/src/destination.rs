//! Destination that a client requests.

/// Destination that a client requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The SNI name, if the client sent one.
    pub sni: Option<String>,
    /// The port that the client connected to.
    pub port: u16,
}
