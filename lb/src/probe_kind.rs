//! Kinds of probes, and the probes that an embedding program defines.
#![expect(
    clippy::disallowed_types,
    reason = "a probe of an embedding program gets the socket"
)]

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpStream;

/// Kind of a probe: the behavior that it requires of an upstream.
#[derive(Debug, Clone)]
pub enum ProbeKind {
    /// No probes. The upstream counts as up; failed dials take it out for one interval.
    Off,
    /// The upstream accepts a connection.
    Tcp,
    /// The upstream sends an expected answer.
    SendExpect {
        /// Bytes to send.
        send: Vec<u8>,
        /// Bytes with which the answer must begin.
        expect: Vec<u8>,
    },
    /// A probe that the embedding program defines.
    Custom(Arc<dyn Probe>),
}

impl PartialEq for ProbeKind {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Off, Self::Off) | (Self::Tcp, Self::Tcp) => true,
            (
                Self::SendExpect { send, expect },
                Self::SendExpect {
                    send: other_send,
                    expect: other_expect,
                },
            ) => send == other_send && expect == other_expect,
            (Self::Custom(probe), Self::Custom(other)) => probe.key() == other.key(),
            (Self::Off | Self::Tcp | Self::SendExpect { .. } | Self::Custom(_), _) => false,
        }
    }
}

/// A custom probe of an upstream.
///
/// ```
/// use std::{io, pin::Pin, sync::Arc};
///
/// use lb::{HealthConfig, Probe, ProbeKind};
/// use tokio::{io::AsyncReadExt, net::TcpStream};
///
/// /// Passes if the upstream greets.
/// #[derive(Debug)]
/// struct Greets;
///
/// impl Probe for Greets {
///     fn key(&self) -> &str {
///         "greets"
///     }
///
///     fn probe(
///         &self,
///         mut stream: TcpStream,
///     ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
///         Box::pin(async move {
///             stream.read_u8().await?;
///             Ok(())
///         })
///     }
/// }
///
/// let health = HealthConfig {
///     check: ProbeKind::Custom(Arc::new(Greets)),
///     ..HealthConfig::default()
/// };
/// assert_eq!(health, health.clone());
/// ```
pub trait Probe: Send + Sync + Debug {
    /// Returns the key of the probe: two probes with the same key ask the same.
    fn key(&self) -> &str;

    /// Probes over a fresh connection; an error is a failed probe, and so is a panic. The error's
    /// message is logged, short and escaped, when the upstream goes down.
    ///
    /// The future is dropped when it takes longer than
    /// [`HealthConfig::timeout`](crate::HealthConfig::timeout).
    fn probe(&self, stream: TcpStream)
    -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>>;
}
