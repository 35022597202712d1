//! Reasons to refuse a request at the admin socket, and their HTTP status codes.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Response, StatusCode};
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::answer::json;

/// The routes, as errors name them.
pub(crate) const ROUTES: &str =
    "GET /status, GET /groups, GET /upstreams, GET /clients, GET /openapi.json, POST /upgrade";

/// Reason why a request at the admin socket was refused.
#[derive(Debug, Error)]
pub enum AdminError {
    /// The path is unknown.
    #[error("not found; there is {ROUTES}")]
    Unknown,
    /// The path is known, but not with this method.
    #[error("the method {0} is not allowed at this path; there is {ROUTES}")]
    Method(Method),
    /// The answer could not be made.
    #[error("the answer failed; the log of the gateway says why")]
    Failed,
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
    /// The upgrade was tried and failed, for this reason.
    #[error("{0}")]
    Upgrade(String),
}

/// Body of every answer with a status of 400 or more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(utoipa::ToSchema))]
pub struct ErrorReport {
    /// Reason why the request was refused, in words.
    pub error: String,
}

impl AdminError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Ending => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upgrade(_) => StatusCode::CONFLICT,
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response<Body> {
        let error = self.to_string();
        json(self.status(), &ErrorReport { error })
    }
}
