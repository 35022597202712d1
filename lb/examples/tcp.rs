//! Balances plain TCP: `cargo run -p lb --example tcp -- 127.0.0.1:9001 127.0.0.1:9002`

use std::{env, error::Error, io::Write, sync::Arc, time::Duration};

use lb::{Config, Drained, GroupConfig, LoadBalancer, UpstreamConfig};
use tokio::{
    io::{AsyncReadExt, stdin},
    net::TcpListener,
};
use tokio_util::task::TaskTracker;

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstreams: Result<Vec<_>, _> = env::args().skip(1).map(|it| it.parse()).collect();
    let upstreams = upstreams?.into_iter().map(UpstreamConfig::new).collect();
    let groups = vec![GroupConfig::new("upstreams", upstreams)];
    let config = Config {
        groups,
        ..Config::default()
    };
    let balancer = Arc::new(LoadBalancer::new(config));
    balancer.start();

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut out = std::io::stdout();
    let address = listener.local_addr()?;
    writeln!(out, "listening on {address}; end of input stops")?;

    let (connections, mut rest) = (TaskTracker::new(), Vec::new());
    let mut input = stdin();
    tokio::select! {
        accepted = accept(listener, &balancer, &connections) => accepted?,
        ended = input.read_to_end(&mut rest) => drop(ended?),
    }
    match balancer.stop(DEADLINE).await {
        Drained::Clean => writeln!(out, "every connection ended by itself")?,
        Drained::CutOff { connections } => writeln!(out, "{connections} were cut off")?,
    }
    Ok(())
}

async fn accept(
    listener: TcpListener,
    balancer: &Arc<LoadBalancer>,
    connections: &TaskTracker,
) -> std::io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        let balancer = Arc::clone(balancer);
        // Every address is a client of its own.
        let client = peer.ip().to_string();
        connections.spawn(async move { balancer.handle(&client, "upstreams", stream).await });
    }
}
