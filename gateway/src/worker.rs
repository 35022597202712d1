//! One worker: a thread with its listeners, accept loops and connections.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::abort;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use host::affinity;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::handle;
use crate::listen_socket::BACKLOG;
use crate::listeners::{AssignedListener, ListenerKind};
use crate::shared_state::SharedState;
use crate::worker_load::WorkerLoadGuard;

mod accept_failures;
mod tick;

pub(crate) use accept_failures::AcceptFailures;
use tick::WorkerTicks;

/// Number of connections that are accepted before other tasks run. A connection that was evicted
/// for them keeps its descriptor until then.
const ACCEPTED_AT_ONCE: u32 = 16;
/// First pause of accepting when the system has no descriptor or memory left.
const PAUSE: Duration = Duration::from_millis(10);
/// Longest pause of accepting; each one is twice as long as the one before.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Starts a worker on its own thread, which is bound to `processor` if one is given. It accepts on
/// every listener that it receives through `assigned`. A panic of the worker ends the process:
/// without the worker, nobody would accept on its listeners.
pub(crate) fn start(
    number: usize,
    processor: Option<usize>,
    (shared, accept_failures): (Arc<SharedState>, Arc<AcceptFailures>),
    assigned: mpsc::Receiver<AssignedListener>,
) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            if let Some(processor) = processor
                && let Err(error) = affinity::stay_on(processor)
            {
                tracing::warn!(
                    worker = number,
                    processor,
                    %error,
                    "cannot keep a worker on its processor"
                );
            }
            let acceptor = Acceptor {
                shared,
                accept_failures,
                worker: number,
                ticks: Arc::default(),
            };
            let work = || runtime.block_on(work(acceptor, assigned));
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                // Without this thread its listeners are not served. The supervisor or a standby
                // replaces the process.
                tracing::error!(worker = number, "a worker has ended; the process ends too");
                abort();
            }
        })
}

/// A worker's number, its ticks and the state that it shares with the other workers.
#[derive(Debug, Clone)]
struct Acceptor {
    shared: Arc<SharedState>,
    accept_failures: Arc<AcceptFailures>,
    worker: usize,
    ticks: Arc<WorkerTicks>,
}

/// Serves until the end of the drain, and answers heartbeats meanwhile.
async fn work(acceptor: Acceptor, assigned: mpsc::Receiver<AssignedListener>) {
    let answering = acceptor.shared.heartbeats().respond();
    let ticks = Arc::clone(&acceptor.ticks);
    tokio::select! {
        () = answering => {}
        () = ticks.tick() => {}
        () = serve(acceptor, assigned) => {}
    }
}

async fn serve(acceptor: Acceptor, mut assigned: mpsc::Receiver<AssignedListener>) {
    let tasks = TaskTracker::new();
    let shared = Arc::clone(&acceptor.shared);
    loop {
        let assignment = tokio::select! {
            Some(assignment) = assigned.recv() => assignment,
            () = shared.closing() => break,
        };
        match listen(assignment.listener) {
            Ok(listener) => {
                let (listener, own, of) = (Arc::new(listener), tasks.clone(), acceptor.clone());
                let accepting = move || {
                    let (closing, listener) = (assignment.closing.clone(), Arc::clone(&listener));
                    accept(of.clone(), listener, closing, assignment.kind, own.clone())
                };
                let accepting = restart_on_panic(acceptor.worker, tasks.clone(), accepting);
                tasks.spawn(shared.acceptors().track_future(accepting));
            }
            Err(error) => tracing::error!(%error, "cannot serve a listener"),
        }
    }
    shared.drain().begun().await;
    tasks.close();
    tasks.wait().await;
}

/// Makes a listener whose connections send each segment at once (`TCP_NODELAY`): a handshake is
/// many small segments. The connections inherit the option, which saves a system call for each.
fn listen(listener: StdListener) -> io::Result<TcpListener> {
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    TcpListener::from_std(listener)
}

/// Runs a task until it ends, and again if it panics: no other task accepts from a worker's
/// listener, and the kernel would continue to hand clients to it.
async fn restart_on_panic<T>(worker: usize, tasks: TaskTracker, doing: impl Fn() -> T)
where
    T: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = tasks.spawn(doing()).await {
        if error.is_cancelled() {
            return;
        }
        tracing::error!(worker, %error, "a worker stopped accepting; it is restarted");
        sleep(LONGEST_PAUSE).await;
    }
}

/// Accepts connections until the listener closes, then those that are queued already, if they
/// belong to this process. After an error of the system it pauses, for [`PAUSE`] first and
/// [`LONGEST_PAUSE`] at most.
async fn accept(
    acceptor: Acceptor,
    listener: Arc<TcpListener>,
    closing: CancellationToken,
    kind: ListenerKind,
    tasks: TaskTracker,
) {
    let mut pause = PAUSE;
    let mut turn = AcceptTurn::default();
    let mut closed = pin!(closing.cancelled());
    loop {
        // The end is checked first: clients that connect without pause must not delay it.
        let accepted = tokio::select! {
            biased;
            () = &mut closed => break,
            accepted = next(&listener, || acceptor.note_empty_queue(kind)) => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = PAUSE;
                if kind == ListenerKind::Steered {
                    acceptor.shared.standby().note_client(Instant::now());
                }
                acceptor.receive(&tasks, socket, peer);
                turn.accepted().await;
            }
            Err(error) if is_the_clients(&error) => turn.accepted().await,
            Err(error) => {
                acceptor.accept_failures.report(&error);
                if acceptor.shared.limits().evict_silent() {
                    pause = PAUSE;
                }
                // The end cuts the pause short.
                drop(timeout(pause, &mut closed).await);
                if closing.is_cancelled() {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    if acceptor.shared.leaves_queued_connections() {
        return;
    }
    // At most as many as the queue holds: further ones may arrive if another process has the
    // listener too.
    for _ in 0..BACKLOG {
        match queued(&listener).await {
            Some((socket, peer)) => acceptor.receive(&tasks, socket, peer),
            None => return,
        }
        turn.accepted().await;
    }
}

/// The turn of an accept loop, after which the connections that were accepted run.
#[derive(Debug, Default)]
struct AcceptTurn(u32);

impl AcceptTurn {
    /// Counts an accepted connection, and yields after every [`ACCEPTED_AT_ONCE`] of them.
    async fn accepted(&mut self) {
        self.0 += 1;
        if self.0 == ACCEPTED_AT_ONCE {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

impl Acceptor {
    /// Notes that no connection is queued at a listener: if it is steered to, the worker has
    /// accepted all that the kernel has given it, and reports that to the kernel.
    fn note_empty_queue(&self, kind: ListenerKind) {
        if kind == ListenerKind::Steered
            && let Some(loads) = self.shared.worker_loads()
        {
            loads.reset_chosen(self.worker);
        }
    }

    fn receive(&self, tasks: &TaskTracker, socket: TcpStream, peer: SocketAddr) {
        self.ticks.note_connection();
        let loads = self.shared.worker_loads();
        let load_guard = loads.map(|loads| WorkerLoadGuard::new(loads, self.worker));
        // The drain begins after the last connection was accepted.
        if let Some(stay) = self.shared.drain().enter() {
            tasks.spawn(handle(
                Arc::clone(&self.shared),
                socket,
                peer,
                (stay, load_guard),
            ));
        }
    }
}

/// Waits for the next connection. Calls `on_empty` whenever it finds none in the queue.
async fn next(listener: &TcpListener, on_empty: impl Fn()) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let accepted = listener.poll_accept(cx);
        if accepted.is_pending() {
            on_empty();
        }
        accepted
    })
    .await
}

/// Returns a connection that is queued already; `None` if there is none.
async fn queued(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Returns true for errors of `accept(2)` that concern only the connection that was to be accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
    )
}

#[cfg(test)]
mod tests;
