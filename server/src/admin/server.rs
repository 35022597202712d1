//! The server at the admin socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::socket_file::{bind, remove, socket_at};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::error::AdminError;
use super::upgrade_request::{UpgradeReport, UpgradeRequest};
use crate::upgrade::UpgradeError;

/// Limit of connections that are served at a time; others wait.
const CONNECTIONS: usize = 8;
/// Time limit for the head of a request, and again for its body: 5 s.
const ASK: Duration = Duration::from_secs(5);
/// Time limit for pending answers in [`AdminSocket::hand_over`]: 500 ms.
const ANSWER: Duration = Duration::from_millis(500);
/// Size limit of a request's body: 64 KiB.
const LONGEST: usize = 64 << 10;
/// Request for an upgrade, with the channel for its answer.
#[derive(Debug)]
pub struct PendingRequest {
    /// The upgrade that is requested.
    pub upgrade: UpgradeRequest,
    /// Channel for the result.
    pub answer: oneshot::Sender<Result<UpgradeReport, UpgradeError>>,
}

/// The open admin socket. Dropping it stops serving, but the file stays: another process may serve
/// there by now.
#[derive(Debug)]
pub struct AdminSocket {
    path: PathBuf,
    /// Device and inode of the socket's file when it was opened.
    own: Option<(u64, u64)>,
    listener: Arc<UnixListener>,
    conversations: TaskTracker,
    serving: DropGuard,
}

impl AdminSocket {
    /// Opens the socket at `path` and serves it on the tokio runtime that calls this; requests go
    /// to `asked`.
    ///
    /// An inherited listener is used if it is bound to the same path. Otherwise a new socket is
    /// bound, which is an error if another process listens there.
    ///
    /// # Errors
    ///
    /// If the path exists and is not a socket, if another process listens there, or if a system
    /// call fails.
    pub fn open(
        path: PathBuf,
        inherited: Option<StdListener>,
        asked: mpsc::Sender<PendingRequest>,
    ) -> io::Result<Self> {
        let tasks = TaskTracker::new();
        let same = |listener: &StdListener| {
            let address = listener.local_addr().ok();
            address.is_some_and(|address| address.as_pathname() == Some(&path))
        };
        let listener = match inherited.filter(same) {
            Some(listener) => listener,
            None => bind(&path)?,
        };
        listener.set_nonblocking(true)?;
        let listener = Arc::new(UnixListener::from_std(listener)?);
        let closing = CancellationToken::new();
        let conversations = TaskTracker::new();
        let serving = serve(Arc::clone(&listener), asked, conversations.clone());
        tasks.spawn(closing.clone().run_until_cancelled_owned(serving));
        Ok(Self {
            own: socket_at(&path),
            path,
            listener,
            conversations,
            serving: closing.drop_guard(),
        })
    }

    /// Returns a duplicate of the listening socket, for another process.
    ///
    /// # Errors
    ///
    /// If the process has no file descriptor left.
    pub fn socket(&self) -> io::Result<OwnedFd> {
        self.listener.as_fd().try_clone_to_owned()
    }

    /// Returns the path of the socket's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops serving and leaves the socket to another process. Pending requests have 500 ms to be
    /// answered.
    pub async fn hand_over(self) {
        drop(self.serving);
        self.conversations.close();
        // A client that has not sent its request by then has to connect again.
        drop(timeout(ANSWER, self.conversations.wait()).await);
    }

    /// Stops serving and removes the socket's file, unless something else is at the path by now.
    pub fn close(self) {
        // It may have been removed already.
        remove(&self.path, self.own).ok();
    }
}

async fn serve(
    listener: Arc<UnixListener>,
    asked: mpsc::Sender<PendingRequest>,
    conversations: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                conversations.spawn(async move {
                    converse(stream, asked).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot serve the admin socket");
                // Descriptors are short, most likely.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, asked: mpsc::Sender<PendingRequest>) {
    let Ok(peer) = stream.peer_cred() else {
        return;
    };
    let (user, process) = (peer.uid(), peer.pid());
    let answer = service_fn(async |request: Request<Incoming>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answer = answer(request, user, &asked).await;
        let (status, body) = match answer {
            Ok(upgraded) => (
                StatusCode::OK,
                serde_json::to_vec(&upgraded).unwrap_or_default(),
            ),
            Err(error) => {
                let said = serde_json::json!({"error": error.to_string()});
                (error.status(), said.to_string().into_bytes())
            }
        };
        tracing::info!(%method, path, user, process, status = status.as_u16(), "admin request");
        Ok::<_, Infallible>(
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Full::<Bytes>::from(body))
                .expect("the parts are valid"),
        )
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(ASK)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection failed");
    }
}

async fn answer(
    request: Request<Incoming>,
    user: u32,
    asked: &mpsc::Sender<PendingRequest>,
) -> Result<UpgradeReport, AdminError> {
    if request.method() != Method::POST || request.uri().path() != "/upgrade" {
        return Err(AdminError::Unknown);
    }
    // The program that a request names runs as the gateway's user.
    if !may_change(user) {
        return Err(AdminError::Forbidden(user));
    }
    let body = timeout(ASK, body(request.into_body()))
        .await
        .map_err(|_| AdminError::Slow(ASK))??;
    let upgrade = if body.is_empty() {
        UpgradeRequest::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| AdminError::Body(error.to_string()))?
    };
    let (answer, upgraded) = oneshot::channel();
    let request = PendingRequest { upgrade, answer };
    asked.send(request).await.map_err(|_| AdminError::Ending)?;
    Ok(upgraded.await.map_err(|_| AdminError::Ending)??)
}

async fn body(
    body: impl Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
) -> Result<Bytes, AdminError> {
    let collected = Limited::new(body, LONGEST).collect().await;
    let collected = collected.map_err(|error| {
        AdminError::Body(if error.is::<LengthLimitError>() {
            format!("it is longer than {LONGEST} bytes")
        } else {
            error.to_string()
        })
    });
    Ok(collected?.to_bytes())
}

fn may_change(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}
