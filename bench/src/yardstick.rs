//! The plainest gateway: tokio-rustls and `copy_bidirectional`, a thread a core. No policy, no
//! limits.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::certs;
use crate::fallible::Fallible;
use crate::upstream::listen;

/// Relays until it is killed.
pub(crate) fn run(
    address: SocketAddr,
    upstream: SocketAddr,
    folder: &Path,
    threads: NonZeroUsize,
) -> Fallible<()> {
    let config = certs::server(folder)?;
    let mut running = Vec::new();
    for _ in 0..threads.get() {
        let listener = listen(address, true)?;
        let config = Arc::clone(&config);
        running.push(std::thread::spawn(move || {
            serve(listener, upstream, config)
        }));
    }
    for thread in running {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn serve(
    listener: std::net::TcpListener,
    upstream: SocketAddr,
    config: Arc<ServerConfig>,
) -> std::io::Result<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let acceptor = TlsAcceptor::from(config);
        let listener = TcpListener::from_std(listener)?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    connections.spawn(relay(acceptor.clone(), stream, upstream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

/// However it ends, both sides see it.
async fn relay(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    upstream: SocketAddr,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut client = acceptor.accept(stream).await?;
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(())
}
