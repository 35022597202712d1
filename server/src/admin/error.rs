//! Why a request at the admin socket is refused, and the HTTP status that says so.

use hyper::StatusCode;
use thiserror::Error;

use super::ASK;
use crate::upgrade::UpgradeError;

/// Why a request was not granted.
#[derive(Debug, Error)]
pub enum AdminError {
    /// There is nothing there.
    #[error("not found; the only endpoint is POST /upgrade")]
    Unknown,
    /// The peer may not change anything.
    #[error("only root and the gateway's own user may do this, not user {0}")]
    Forbidden(u32),
    /// The body is not what is expected.
    #[error("the body is not what is expected: {0}")]
    Body(String),
    /// The body did not come in time.
    #[error("the body did not come within {ASK:?}")]
    Slow,
    /// The gateway is about to end.
    #[error("the gateway is shutting down")]
    Ending,
    /// It was tried, and could not be done.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl AdminError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upgrade(_) => StatusCode::CONFLICT,
        }
    }
}
