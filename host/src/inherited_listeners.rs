//! Listeners that were open before this process started: handed over by the old process, or kept by
//! the service manager.

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::str::FromStr;

/// The purpose of a listener. Its text is also its name in a service manager's file descriptor
/// store, where colons are not allowed.
///
/// ```
/// use host::inherited_listeners::ListenerPurpose;
///
/// let purpose = ListenerPurpose::Listen("127.0.0.1:443".parse().unwrap());
/// assert_eq!(purpose.to_string(), "listen-127.0.0.1_443");
/// assert_eq!("listen-127.0.0.1_443".parse(), Ok(purpose));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerPurpose {
    /// It listens at an address of the policy.
    Listen(SocketAddr),
    /// Connections are steered to it, in the slot of this number.
    Steered(usize),
    /// The kernel uses it to find the listeners that connections are steered to.
    Anchor,
    /// It is the admin socket.
    Admin,
}

impl fmt::Display for ListenerPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address) => {
                write!(f, "listen-{}", address.to_string().replace(':', "_"))
            }
            Self::Steered(slot) => write!(f, "steered-{slot}"),
            Self::Anchor => f.write_str("anchor"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

impl FromStr for ListenerPurpose {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().map_err(drop);
        match name.split_once('-') {
            Some(("listen", address)) => {
                let address = address.replace('_', ":").parse().map_err(drop)?;
                Ok(Self::Listen(address))
            }
            Some(("steered", slot)) => number(slot).map(Self::Steered),
            None if name == "anchor" => Ok(Self::Anchor),
            None if name == "admin" => Ok(Self::Admin),
            Some(_) | None => Err(()),
        }
    }
}

/// Inherited listeners that are not in use yet, each with its [`ListenerPurpose`]. Dropping them
/// closes them in this process.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    listeners: Vec<(SocketAddr, TcpListener)>,
    steered: Vec<(usize, TcpListener)>,
    anchor: Option<TcpListener>,
    admin: Option<UnixListener>,
    owns_steering: bool,
    generation: u64,
}

impl InheritedListeners {
    /// Sets the generation of the old process's policy.
    pub fn set_generation(&mut self, generation: u64) {
        self.generation = generation;
    }

    /// Returns the generation of the old process's policy; 0 if there is no old process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Adds a socket that is known to be a listener of this purpose.
    pub fn add(&mut self, purpose: &ListenerPurpose, socket: OwnedFd) {
        match *purpose {
            ListenerPurpose::Listen(address) => self.add_listener(address, socket.into()),
            ListenerPurpose::Steered(slot) => self.steered.push((slot, socket.into())),
            ListenerPurpose::Anchor => self.anchor = Some(socket.into()),
            ListenerPurpose::Admin => self.admin = Some(socket.into()),
        }
    }

    /// Adds a listener that is open at an address.
    pub fn add_listener(&mut self, address: SocketAddr, listener: TcpListener) {
        self.listeners.push((address, listener));
    }

    /// Notes that the process that had the listeners has loaded the steering programs, and would
    /// have unloaded them at its end. This process takes that over.
    pub fn set_owns_steering(&mut self) {
        self.owns_steering = true;
    }

    /// Returns the purposes of all listeners, without the admin socket.
    pub fn purposes(&self) -> impl Iterator<Item = ListenerPurpose> {
        let listeners = self.listeners.iter();
        let steered = self.steered.iter();
        listeners
            .map(|(address, _)| ListenerPurpose::Listen(*address))
            .chain(steered.map(|(slot, _)| ListenerPurpose::Steered(*slot)))
            .chain(self.anchor.as_ref().map(|_| ListenerPurpose::Anchor))
    }

    /// Returns the number of listeners, the admin socket included.
    pub fn len(&self) -> usize {
        let more = usize::from(self.anchor.is_some()) + usize::from(self.admin.is_some());
        self.listeners.len() + self.steered.len() + more
    }

    /// Returns true if there are no listeners.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns true if the process that takes these listeners must unload the steering programs at
    /// its end.
    pub fn owns_steering(&self) -> bool {
        self.owns_steering
    }

    /// Returns true if there are listeners at an address with this port.
    pub fn has_listeners(&self, port: u16) -> bool {
        let mut listeners = self.listeners.iter();
        listeners.any(|(address, _)| address.port() == port)
    }

    /// Returns true if there are listeners at the address `wanted`.
    pub fn has_listener_at(&self, wanted: SocketAddr) -> bool {
        self.listeners.iter().any(|(address, _)| *address == wanted)
    }

    /// Takes the listeners at the address `wanted`.
    pub fn take_listeners(&mut self, wanted: SocketAddr) -> Vec<TcpListener> {
        let taken = self
            .listeners
            .extract_if(.., |(address, _)| *address == wanted);
        taken.map(|(_, listener)| listener).collect()
    }

    /// Takes the listeners for steered connections, in the order of their slots, and their anchor.
    /// Without an anchor nothing is taken.
    pub fn take_steered(&mut self) -> Option<(Vec<TcpListener>, TcpListener)> {
        let anchor = self.anchor.take()?;
        self.steered.sort_unstable_by_key(|(slot, _)| *slot);
        let listeners = self.steered.drain(..).map(|(_, listener)| listener);
        Some((listeners.collect(), anchor))
    }

    /// Takes the admin socket.
    pub fn take_admin(&mut self) -> Option<UnixListener> {
        self.admin.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_read_as_it_was_written_and_has_no_colon() {
        for purpose in [
            ListenerPurpose::Listen("127.0.0.1:5432".parse().unwrap()),
            ListenerPurpose::Listen("[2001:db8::1]:443".parse().unwrap()),
            ListenerPurpose::Listen("[::]:0".parse().unwrap()),
            ListenerPurpose::Steered(63),
            ListenerPurpose::Anchor,
            ListenerPurpose::Admin,
        ] {
            let name = purpose.to_string();
            assert!(!name.contains(':'), "{name}");
            assert_eq!(name.parse(), Ok(purpose));
        }
        for name in ["", "connection", "listen-x", "steered-", "steered--1"] {
            assert_eq!(name.parse::<ListenerPurpose>(), Err(()), "{name}");
        }
    }

    #[test]
    fn listeners_come_back_by_their_purpose() {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (second, first, anchor) = (bind(), bind(), bind());
        let slots = [&first, &second].map(|listener| listener.local_addr().unwrap());
        let mut inherited = InheritedListeners::default();
        inherited.add(&ListenerPurpose::Steered(1), second.into());
        inherited.add(&ListenerPurpose::Steered(0), first.into());
        inherited.add(&ListenerPurpose::Anchor, anchor.into());
        let here: SocketAddr = "127.0.0.1:0".parse().unwrap();
        inherited.add(&ListenerPurpose::Listen(here), bind().into());
        inherited.add(&ListenerPurpose::Listen(here), bind().into());
        assert_eq!(inherited.len(), 5);
        assert_eq!(inherited.take_listeners(here).len(), 2);
        let (steered, _) = inherited.take_steered().unwrap();
        assert_eq!(
            steered
                .iter()
                .map(|one| one.local_addr().unwrap())
                .collect::<Vec<_>>(),
            slots
        );
        assert!(inherited.is_empty() && inherited.take_steered().is_none());
    }
}
