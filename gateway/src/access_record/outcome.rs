//! Outcomes of connections, and the reason and detail that a record gives for each.

use std::io;

use lb::RelayError;
use tls::record_layer::RecordError;

use crate::rejection::Rejection;

/// The outcome of a connection.
#[derive(Debug)]
pub enum Outcome {
    /// Both sides closed the connection.
    Finished,
    /// The client closed the connection completely before the upstream closed its side.
    ClientLeft,
    /// The connection failed, or exceeded a limit, while bytes were relayed.
    Broken(RelayError),
    /// The connection's permit was revoked.
    Revoked,
    /// A certificate of the client's chain has ended.
    CertificateEnded,
    /// The drain's deadline passed.
    CutOff,
    /// The client was refused, or no upstream could be used.
    Rejected(Rejection),
}

impl Outcome {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Broken(RelayError::Downstream(error)) if is_too_much(error) => {
                "too_many_messages"
            }
            Self::ClientLeft => "client_left",
            Self::Broken(RelayError::Downstream(_)) => "client_broke_off",
            Self::Broken(RelayError::Upstream(_)) => "upstream_broke_off",
            Self::Broken(RelayError::Idle) => "idle",
            Self::Broken(RelayError::HalfClosed) => "half_closed",
            Self::Broken(RelayError::ClientStalled | RelayError::UpstreamStalled) => "stalled",
            Self::Broken(RelayError::UpstreamDown) => "upstream_down",
            Self::Broken(RelayError::Lifetime) => "lifetime",
            Self::Revoked => "revoked",
            Self::CertificateEnded => "certificate_expired",
            Self::CutOff => "drain_deadline",
            Self::Rejected(rejection) => rejection.reason(),
        }
    }

    pub(super) fn detail(&self) -> Option<String> {
        match self {
            Self::Finished
            | Self::ClientLeft
            | Self::Revoked
            | Self::CertificateEnded
            | Self::CutOff => None,
            Self::Broken(error) => Some(with_source(error)),
            Self::Rejected(rejection) => Some(with_source(rejection)),
        }
    }
}

/// Returns true if a client was disconnected because it sent more key updates, warnings or empty
/// records than are allowed in the time.
fn is_too_much(error: &io::Error) -> bool {
    let record_error = error.get_ref().and_then(|source| source.downcast_ref());
    matches!(
        record_error,
        Some(RecordError::Messages | RecordError::EmptyRecords)
    )
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
