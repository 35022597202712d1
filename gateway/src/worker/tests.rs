//! Accepting ends when it is to, whoever waits, and only then.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use policy::Freebind;

use super::*;
use crate::access_record::Recorder;
use crate::gateway::Gateway;
use crate::listen_socket::bind;
use crate::loaded_policy::LoadedPolicy;
use crate::shared_state::QueuedConnections;
use crate::test_support::GatewayFiles;

/// How many connections wait at a listener.
const WAITING: usize = 3;

/// A gateway that listens nowhere, and its files.
fn gateway() -> (GatewayFiles, Arc<Gateway>) {
    let files = GatewayFiles::with_clients("{}");
    let recorder = Recorder::new(files.sink());
    let gateway = Gateway::new(LoadedPolicy::of_files(&files), recorder);
    (files, gateway)
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
    let (_files, gateway) = gateway();
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
