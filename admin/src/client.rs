//! The client of the admin socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::http::request;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::error::ErrorReport;
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

/// Time limit for the answer to a read: 30 s.
const READ: Duration = Duration::from_secs(30);

/// Requests an upgrade from the gateway at the admin socket `socket`, and waits for the result.
/// There is no time limit here: the gateway limits the upgrade by
/// [`UpgradeRequest::timeout_seconds`].
///
/// # Errors
///
/// An [`AskError`] if nobody listens at the socket, if there is no valid answer, or if the gateway
/// refuses or fails to upgrade.
pub async fn ask(socket: &Path, upgrade: &UpgradeRequest) -> Result<UpgradeReport, AskError> {
    let body = serde_json::to_vec(upgrade).unwrap_or_default();
    request(socket, Request::post("/upgrade"), body).await
}

/// Reads what is at `path`, such as `/status`, from the gateway at the admin socket `socket`,
/// within 30 s.
///
/// # Errors
///
/// An [`AskError`] if nobody listens at the socket, if there is no valid answer in time, or if the
/// gateway refuses.
pub async fn read<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, AskError> {
    let answered = timeout(READ, request(socket, Request::get(path), Vec::new())).await;
    answered.unwrap_or_else(|_| Err(AskError::Silent(format!("none within {READ:?}"))))
}

async fn request<T: DeserializeOwned>(
    socket: &Path,
    request: request::Builder,
    body: Vec<u8>,
) -> Result<T, AskError> {
    let unreachable = |source| AskError::Unreachable {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let silent = |error: &dyn fmt::Display| AskError::Silent(error.to_string());
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| silent(&error))?;
    let request = request
        .header("host", "portcullis")
        .body(Full::<Bytes>::from(body));
    let request = request.map_err(|error| silent(&error))?;
    let answered = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok::<_, hyper::Error>((head.status, body.collect().await?.to_bytes()))
    };
    // The gateway closes the connection behind its answer.
    let (answered, _) = tokio::join!(answered, connection);
    let (status, body) = answered.map_err(|error| silent(&error))?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| silent(&error));
    }
    let refusal: ErrorReport = serde_json::from_slice(&body).map_err(|error| silent(&error))?;
    Err(AskError::Refused(refusal.error))
}
