//! Sockets of listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use policy::Freebind;

/// Length of the queue of connections that wait to be accepted; the kernel's `somaxconn` limits it.
pub(crate) const BACKLOG: i32 = 4096;

/// Binds one non-blocking listener of a `SO_REUSEPORT` group; port 0 asks the kernel for a free
/// one. With [`Freebind::On`] the address need not exist on this machine yet.
///
/// # Errors
///
/// If the address is in use or not available, or the process has no file descriptor left.
pub(crate) fn bind(address: SocketAddr, freebind: Freebind) -> io::Result<TcpListener> {
    let socket = socket(address, freebind)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Creates a socket for a listener at an address. An IPv6 socket takes IPv4 connections too.
fn socket(address: SocketAddr, freebind: Freebind) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    match (freebind, address) {
        (Freebind::Off, _) => {}
        (Freebind::On, SocketAddr::V4(_)) => socket.set_freebind_v4(true)?,
        (Freebind::On, SocketAddr::V6(_)) => socket.set_freebind_v6(true)?,
    }
    Ok(socket)
}

/// Returns true if a listener is open at an address already, for example another process's: in a
/// `SO_REUSEPORT` group two gateways of one user would share its clients without notice. If two
/// start at the same time, neither may see the other. Port 0 is never taken.
pub(crate) fn is_taken(address: SocketAddr, freebind: Freebind) -> bool {
    let bound = || {
        let socket = socket(address, freebind)?;
        // Connections that are left of a process that has ended do not count.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())
    };
    address.port() != 0
        && bound().is_err_and(|error: io::Error| error.kind() == io::ErrorKind::AddrInUse)
}
