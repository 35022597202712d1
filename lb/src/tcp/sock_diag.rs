//! Bytes that a peer has not acknowledged, queried over netlink (`sock_diag(7)`).
//!
//! `ioctl(SIOCOUTQ)` returns the same number, but there is no call for it that is free of `unsafe`.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use socket2::SockRef;

/// The length of a netlink header: `struct nlmsghdr`.
const HEADER: usize = 16;
/// The length of a request: a header and `struct inet_diag_req_v2`.
const REQUEST: usize = HEADER + 56;
/// Offset of `idiag_wqueue` in an answer: after the header, four bytes, a socket's id and two
/// numbers.
const QUEUE: usize = HEADER + 4 + 48 + 8;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const IS_REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `-ENOENT`: there is no such connection.
const NO_ENTRY: i32 = -2;

thread_local! {
    static KERNEL: RefCell<DiagSocket> = const { RefCell::new(DiagSocket { socket: None, sequence: 0 }) };
}

/// Netlink socket of a thread, and the number of its last request.
struct DiagSocket {
    socket: Option<OwnedFd>,
    sequence: u32,
}

/// Returns the number of sent bytes that the peer has not acknowledged, bytes that are yet to be
/// transmitted included; zero if the connection is dead, and `None` if the kernel does not report
/// it.
pub(crate) fn queued(socket: BorrowedFd<'_>) -> Option<u32> {
    let socket = SockRef::from(&socket);
    let local = socket.local_addr().ok()?.as_socket()?;
    let Ok(peer) = socket.peer_addr() else {
        return Some(0);
    };
    KERNEL.with_borrow_mut(|kernel| kernel.ask(local, peer.as_socket()?))
}

impl DiagSocket {
    fn ask(&mut self, local: SocketAddr, peer: SocketAddr) -> Option<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(self.sequence, local, peer);
        if self.socket.is_none() {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let kind = SocketType::DGRAM;
            let kernel = socket_with(
                AddressFamily::NETLINK,
                kind,
                flags,
                Some(netlink::SOCK_DIAG),
            );
            self.socket = kernel.ok();
        }
        let kernel = self.socket.as_ref()?;
        send(kernel, &request, SendFlags::empty()).ok()?;
        // The kernel answers while the request is sent. The answer to an earlier request may be
        // before it.
        for _ in 0..4 {
            let mut answer = [0; 512];
            let (length, _) = recv(kernel, &mut answer, RecvFlags::empty()).ok()?;
            let answer = answer.get(..length)?;
            if number(answer, 8)? == self.sequence {
                return read(answer);
            }
        }
        None
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn read(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    match kind {
        BY_FAMILY => number(answer, QUEUE),
        ERROR => (number(answer, HEADER)?.cast_signed() == NO_ENTRY).then_some(0),
        _ => None,
    }
}

fn request(sequence: u32, local: SocketAddr, peer: SocketAddr) -> [u8; REQUEST] {
    // AF_INET and AF_INET6.
    let family = if local.is_ipv4() { 2 } else { 10 };
    let scope = match local {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    };
    let mut request = [0; REQUEST];
    let length = u32::try_from(REQUEST).expect("it is short");
    let mut rest = &mut request[..];
    let mut put = |bytes: &[u8]| {
        let (place, after) = std::mem::take(&mut rest).split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        rest = after;
    };
    put(&length.to_ne_bytes());
    put(&BY_FAMILY.to_ne_bytes());
    put(&IS_REQUEST.to_ne_bytes());
    put(&sequence.to_ne_bytes());
    put(&[0; 4]);
    put(&[family, TCP, 0, 0]);
    put(&u32::MAX.to_ne_bytes());
    put(&local.port().to_be_bytes());
    put(&peer.port().to_be_bytes());
    put(&octets(local.ip()));
    put(&octets(peer.ip()));
    put(&scope.to_ne_bytes());
    put(&[0xff; 8]);
    request
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => Ipv6Addr::octets(&address),
    }
}
