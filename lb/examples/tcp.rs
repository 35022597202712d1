//! Balances plain TCP: `cargo run -p lb --example tcp -- 127.0.0.1:9001 127.0.0.1:9002`
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is the embedding program, which has the sockets"
)]

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use lb::{Drained, GroupConfig, LoadBalancer, LoadBalancerConfig, UpstreamConfig};
use tokio::io::{copy, sink, stdin};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

const DEADLINE: Duration = Duration::from_secs(10);

/// How long accepting pauses after a failure: connections that end give descriptors back.
const PAUSE: Duration = Duration::from_millis(50);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstreams: Result<Vec<_>, _> = env::args().skip(1).map(|it| it.parse()).collect();
    let upstreams = upstreams?.into_iter().map(UpstreamConfig::new).collect();
    let groups = vec![GroupConfig::new("upstreams", upstreams)];
    let config = LoadBalancerConfig {
        groups,
        ..LoadBalancerConfig::default()
    };
    let balancer = Arc::new(LoadBalancer::new(config)?);
    balancer.start()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = io::stdout();
    writeln!(
        out,
        "listening on {}; end of input stops",
        listener.local_addr()?
    )?;

    let connections = TaskTracker::new();
    let (mut input, mut nowhere) = (stdin(), sink());
    tokio::select! {
        () = accept(listener, &balancer, &connections) => {}
        ended = copy(&mut input, &mut nowhere) => drop(ended?),
    }
    match balancer.stop(DEADLINE).await {
        Drained::Clean => writeln!(out, "every connection ended by itself")?,
        Drained::CutOff { connections } => writeln!(out, "{connections} were cut off")?,
    }
    Ok(())
}

async fn accept(listener: TcpListener, balancer: &Arc<LoadBalancer>, connections: &TaskTracker) {
    loop {
        // Out of descriptors, or a client that left: neither is a reason to give up the others.
        let Ok((stream, peer)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let balancer = Arc::clone(balancer);
        // Every address is a client of its own.
        let client = peer.ip().to_string();
        connections.spawn(async move { balancer.handle(&client, "upstreams", stream).await });
    }
}
