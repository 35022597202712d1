//! The server at the admin socket.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use host::socket_file::{bind, remove, socket_at};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::control::GatewayControl;
use crate::routes::{Peer, router};

/// Limit of connections that are served at a time; others wait.
const CONNECTIONS: usize = 8;
/// Time limit for the head of a request: 5 s.
const HEAD: Duration = Duration::from_secs(5);
/// Time limit for a client to take the answer to its request: 10 s.
const TAKE: Duration = Duration::from_secs(10);
/// Time limit for pending answers in [`AdminSocket::hand_over`]: 500 ms.
const ANSWER: Duration = Duration::from_millis(500);

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
    /// Opens the socket at `path` and serves it on the tokio runtime that calls this; requests
    /// are for `gateway`.
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
        gateway: Arc<impl GatewayControl>,
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
        let serving = serve(
            Arc::clone(&listener),
            TowerToHyperService::new(router(gateway)),
            conversations.clone(),
        );
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
    routes: TowerToHyperService<Router>,
    conversations: TaskTracker,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let routes = routes.clone();
                conversations.spawn(async move {
                    converse(stream, routes).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::error!(%error, "cannot serve the admin socket");
                // Most likely the process has no file descriptor left.
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, routes: TowerToHyperService<Router>) {
    let Ok(peer) = stream.peer_cred() else {
        return;
    };
    let (user, process) = (peer.uid(), peer.pid());
    let answered = CancellationToken::new();
    let answer = service_fn(async |mut request: Request<Incoming>| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        request.extensions_mut().insert(Peer { user });
        let answer = routes.call(request).await?;
        answered.cancel();
        let status = answer.status().as_u16();
        // A monitor may read every second.
        if method == Method::GET {
            tracing::debug!(%method, path, user, process, status, "admin request");
        } else {
            tracing::info!(%method, path, user, process, status, "admin request");
        }
        Ok::<_, Infallible>(answer)
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    let late = async {
        answered.cancelled().await;
        sleep(TAKE).await;
    };
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::debug!(%error, "an admin connection failed");
            }
        }
        () = late => tracing::debug!(user, process, "an admin client did not take its answer in time"),
    }
}

#[cfg(test)]
mod tests;
