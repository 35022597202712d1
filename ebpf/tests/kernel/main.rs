//! What the kernel does with the programs. `ebpf/tests/kernel.sh` runs this as root in a network
//! namespace of its own; it needs a bpffs at `PORTCULLIS_BPFFS`.
#![cfg(test)]

mod loading;
mod roles;
mod steered;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use ebpf::{IpPrefix, PinDir, PortBinding, Role, RoleOrigin, Steering};
use socket2::{Domain, Socket, Type};

/// An instance that is unloaded at the end.
struct Instance(PinDir);

impl Instance {
    fn new(name: &str) -> Self {
        let bpffs = PathBuf::from(std::env::var_os("PORTCULLIS_BPFFS").expect("run kernel.sh"));
        Self(PinDir::new(&bpffs, name).unwrap())
    }

    fn loaded(name: &str) -> Self {
        let instance = Self::new(name);
        ebpf::load(&instance.0, None).unwrap();
        instance
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        ebpf::unload(&self.0).ok();
    }
}

/// Listeners of one group: one for each worker, and the handle.
fn group(workers: usize, port: u16) -> (Vec<TcpListener>, TcpListener) {
    let mut address: SocketAddr = "[::ffff:127.0.0.1]:0".parse().unwrap();
    address.set_port(port);
    let mut listeners = Vec::new();
    for _ in 0..=workers {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(4096).unwrap();
        let listener = TcpListener::from(socket);
        address = listener.local_addr().unwrap();
        listeners.push(listener);
    }
    let handle = listeners.pop().unwrap();
    (listeners, handle)
}

fn serve(instance: &Instance, workers: usize) -> (Steering, Vec<TcpListener>, TcpListener) {
    serve_as(Role::Primary, instance, workers)
}

fn serve_as(
    role: Role,
    instance: &Instance,
    workers: usize,
) -> (Steering, Vec<TcpListener>, TcpListener) {
    let mut steering = Steering::open(&instance.0, role).unwrap();
    let (listeners, handle) = group(workers, steering.group().unwrap().unwrap_or(0));
    let all: Vec<&TcpListener> = listeners.iter().collect();
    steering.serve(&all, &handle, RoleOrigin::Fresh).unwrap();
    (steering, listeners, handle)
}

fn at(port: u16, address: &str, length: u8) -> PortBinding {
    PortBinding::At(port, IpPrefix::new(address.parse().unwrap(), length))
}

fn connect(address: &str) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5))
}

#[track_caller]
fn refused(address: &str) {
    let error = connect(address).expect_err(address);
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
}
