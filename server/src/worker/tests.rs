//! Accepting ends when it is to, whoever waits, and only then.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use certgen::{Authority, AuthoritySpec, Overwrite};
use tempfile::TempDir;

use super::*;
use crate::access_record::Recorder;
use crate::gateway::Gateway;
use crate::listen_socket::bind;
use crate::load;
use crate::log_writer::{LogOutput, Sink};
use crate::policy::Freebind;
use crate::shared_state::QueuedConnections;

const POLICY: &str = "
version: 1
gateway:
  listen: ['127.0.0.1:0']
  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
groups:
  db: {upstreams: ['127.0.0.1:1'], health: {check: off}}
clients: {}
";
/// How many connections wait at a listener.
const WAITING: usize = 3;

/// A gateway that listens nowhere, and the directory of its files.
pub(crate) fn gateway() -> (TempDir, Arc<Gateway>) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(&AuthoritySpec::default()).unwrap();
    authority.save(dir.path(), Overwrite::Refuse).unwrap();
    let own = authority.server(&["localhost"]).unwrap();
    own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
    let policy = dir.path().join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    let sink = Sink::open(LogOutput::File(dir.path().join("log")), |_| String::new()).unwrap();
    let gateway = Gateway::new(load::read(&policy).unwrap(), Recorder::new(sink));
    (dir, gateway)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_while_it_accepts_begins_again_until_it_ends_by_itself() {
    let begun = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&begun);
    let accepting = move || {
        let number = counted.fetch_add(1, Relaxed);
        async move { assert!(number == 2, "attempt {number} breaks off") }
    };
    restart_on_panic(0, TaskTracker::new(), accepting).await;
    assert_eq!(begun.load(Relaxed), 3);
}

#[tokio::test]
async fn a_connection_sends_each_segment_at_once() {
    let listener = listen(bind("127.0.0.1:0".parse().unwrap(), Freebind::Off).unwrap()).unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (_client, accepted) = tokio::join!(connecting, listener.accept());
    assert!(accepted.unwrap().0.nodelay().unwrap());
}

#[tokio::test]
async fn the_end_of_accepting_comes_before_who_waits_at_the_listener() {
    let (_dir, gateway) = gateway();
    gateway.close(QueuedConnections::Theirs).await;

    let listener = bind("127.0.0.1:0".parse().unwrap(), Freebind::Off).unwrap();
    let address = listener.local_addr().unwrap();
    let _clients: Vec<_> = (0..=WAITING)
        .map(|_| std::net::TcpStream::connect(address).unwrap())
        .collect();
    let others = listener.try_clone().unwrap();
    let closing = CancellationToken::new();
    closing.cancel();
    let acceptor = Acceptor {
        shared: Arc::clone(gateway.shared()),
        accept_failures: Arc::default(),
        worker: 0,
        ticks: Arc::default(),
    };
    let listener = Arc::new(TcpListener::from_std(listener).unwrap());
    // As at any time during a flood, the runtime knows that somebody waits.
    drop(listener.accept().await.unwrap());
    accept(
        acceptor,
        listener,
        closing,
        ListenerKind::Address,
        TaskTracker::new(),
    )
    .await;

    for _ in 0..WAITING {
        others.accept().expect("it is left to the other process");
    }
}
