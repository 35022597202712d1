//! The upstream behind every gateway. The first byte of a connection says what it does.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::fallible::Fallible;

/// It sends back what it gets.
pub(crate) const ECHO: u8 = b'e';
/// It reads and says nothing.
pub(crate) const SINK: u8 = b's';
/// It sends without end.
pub(crate) const SOURCE: u8 = b'd';
/// It does both.
pub(crate) const BOTH: u8 = b'b';

const BLOCK: usize = 64 << 10;
const BACKLOG: i32 = 4096;

/// Binds a listener with room for a herd.
pub(crate) fn listen(address: SocketAddr, shared: bool) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves until it is killed.
pub(crate) fn run(address: SocketAddr) -> Fallible<()> {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listen(address, false)?)?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    stream.set_nodelay(true)?;
                    connections.spawn(serve(stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    })
}

/// However it ends, the client sees it.
async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    match stream.read_u8().await? {
        ECHO => echo(stream).await,
        SINK => sink(stream).await,
        SOURCE => source(stream).await,
        BOTH => {
            let (mut read, mut write) = stream.into_split();
            let block = vec![b'x'; BLOCK];
            let reading = async {
                let mut buffer = vec![0; BLOCK];
                while read.read(&mut buffer).await? > 0 {}
                Ok(())
            };
            let writing = async {
                loop {
                    write.write_all(&block).await?;
                }
            };
            tokio::select! {
                done = reading => done,
                done = writing => done,
            }
        }
        _ => Ok(()),
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    // As much as is needed for small messages: thousands of connections are idle.
    let mut small = [0; 64];
    let read = stream.read(&mut small).await?;
    stream.write_all(&small[..read]).await?;
    while {
        stream.readable().await?;
        let mut buffer = vec![0; BLOCK];
        match stream.try_read(&mut buffer) {
            Ok(0) => false,
            Ok(read) => {
                stream.write_all(&buffer[..read]).await?;
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
            Err(error) => return Err(error),
        }
    } {}
    stream.shutdown().await
}

async fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; BLOCK];
    while stream.read(&mut buffer).await? > 0 {}
    stream.shutdown().await
}

async fn source(mut stream: TcpStream) -> std::io::Result<()> {
    let block = vec![b'x'; BLOCK];
    loop {
        stream.write_all(&block).await?;
    }
}
