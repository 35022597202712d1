//! The client of the admin socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::upgrade_request::{UpgradeReport, UpgradeRequest};

/// Failure of [`ask`].
#[derive(Debug, Error)]
pub enum AskError {
    /// No process listens at the socket.
    #[error("cannot reach a gateway at {path}: {source}", path = .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The connection ended without a valid answer.
    #[error("no valid answer from the gateway: {0}")]
    Silent(String),
    /// The gateway refused the request, with this reason.
    #[error("{0}")]
    Refused(String),
}

/// Body of a refusal.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: String,
}

/// Requests an upgrade from the gateway at the admin socket `socket`, and waits for the result.
/// There is no time limit here: the gateway limits the upgrade by
/// [`UpgradeRequest::timeout_seconds`].
///
/// # Errors
///
/// An [`AskError`] if nobody listens at the socket, if there is no valid answer, or if the gateway
/// refuses or fails to upgrade.
///
/// # Panics
///
/// Not in practice: the parts of the request are fixed and valid.
pub async fn ask(socket: &Path, upgrade: &UpgradeRequest) -> Result<UpgradeReport, AskError> {
    let unreachable = |source| AskError::Unreachable {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let silent = |error: &dyn fmt::Display| AskError::Silent(error.to_string());
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| silent(&error))?;
    let answered = async move {
        let body = serde_json::to_vec(upgrade).unwrap_or_default();
        let request = Request::post("/upgrade")
            .header("host", "portcullis")
            .body(Full::<Bytes>::from(body))
            .expect("the parts are valid");
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
    };
    // The gateway closes the connection behind its answer.
    let (answered, _) = tokio::join!(answered, connection);
    let (status, body) = answered.map_err(|error| silent(&error))?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| silent(&error));
    }
    let refusal: ErrorBody = serde_json::from_slice(&body).map_err(|error| silent(&error))?;
    Err(AskError::Refused(refusal.error))
}
