//! Reasons to refuse a request at the admin socket, and their HTTP status codes.

use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::upgrade::UpgradeError;

/// Reason why a request at the admin socket was refused.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The method or the path is unknown.
    #[error("not found; the only endpoint is POST /upgrade")]
    Unknown,
    /// The user of the peer, given by its ID, may not change anything.
    #[error("only root and the gateway's own user may do this, not user {0}")]
    Forbidden(u32),
    /// The body is too long, or is not a valid request.
    #[error("invalid request body: {0}")]
    Body(String),
    /// The body was not received in this time.
    #[error("the request body did not arrive within {0:?}")]
    Slow(Duration),
    /// The gateway is about to end.
    #[error("the gateway is shutting down")]
    Ending,
    /// The upgrade was tried and failed.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl AdminError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upgrade(_) => StatusCode::CONFLICT,
        }
    }
}
