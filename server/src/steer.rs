//! What the kernel hands to this gateway, beside what comes to its own addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use ebpf::{Applied, Bans, Loads, Place, Role, SteerError, Steering};
use thiserror::Error;

use crate::policy::{Policy, SteerMode};
use crate::worker;

/// Why nothing can be steered.
#[derive(Debug, Error)]
pub enum Unsteered {
    /// The kernel's half cannot be had.
    #[error(transparent)]
    Kernel(#[from] SteerError),
    /// A standby needs what it is steered by.
    #[error("a standby needs eBPF: the policy has no `steer`, or turns it off")]
    NoStandby,
    /// There are no listeners to steer to.
    #[error("the listeners that are steered to cannot be bound: {0}")]
    Listen(#[from] io::Error),
}

/// The kernel's half of a gateway that serves.
#[derive(Debug)]
pub(crate) struct Steered {
    steering: Steering,
    /// By its means the kernel finds the workers' listeners; nobody accepts from it.
    _handle: TcpListener,
    /// Whether it goes when the gateway does.
    is_own: bool,
}

/// What is steered to: nothing yet, and the workers' listeners.
pub(crate) type Started = (Steered, Vec<TcpListener>);

/// Takes an instance's place in the kernel, if the policy wants to steer. What is not loaded there is
/// loaded, if that is allowed.
pub(crate) fn start(
    place: &Place,
    role: Role,
    policy: &Policy,
    workers: usize,
) -> Result<Option<Started>, Unsteered> {
    let mode = policy.gateway().steer.as_ref().map(|steer| steer.mode);
    let required = match (mode, role) {
        (None | Some(SteerMode::Off), Role::Primary) => return Ok(None),
        (None | Some(SteerMode::Off), Role::Standby) => return Err(Unsteered::NoStandby),
        (Some(SteerMode::Required), _) | (_, Role::Standby) => true,
        (Some(SteerMode::Auto), Role::Primary) => false,
    };
    match Steered::start(place, role, workers) {
        Ok(started) => Ok(Some(started)),
        Err(error) if required => Err(error),
        Err(error) => {
            tracing::warn!(%error, "nothing is steered; what `listen` names is served");
            Ok(None)
        }
    }
}

impl Steered {
    fn start(place: &Place, role: Role, workers: usize) -> Result<Started, Unsteered> {
        let (mut steering, is_own) = match Steering::open(place, role) {
            Err(SteerError::NotLoaded(_)) if role == Role::Primary => {
                let foreign = ebpf::load(place, None)?;
                if let Some(warning) = rivals(&foreign) {
                    tracing::warn!("{warning}");
                }
                (Steering::open(place, role)?, true)
            }
            opened => (opened?, false),
        };
        let (listeners, handle) = group(steering.group()?, workers)?;
        steering.serve(&listeners.iter().collect::<Vec<_>>(), &handle)?;
        let steered = Self {
            steering,
            _handle: handle,
            is_own,
        };
        Ok((steered, listeners))
    }

    /// How busy the workers are, as the kernel is to know.
    pub(crate) fn loads(&self) -> Arc<Loads> {
        self.steering.loads()
    }

    /// The sources that are banned.
    pub(crate) fn bans(&self) -> Result<Bans, SteerError> {
        Bans::open(self.steering.place())
    }

    /// Has the kernel steer what the policy names, from now on. If it cannot, that is logged, and
    /// the next reload tries again.
    pub(crate) fn apply(&mut self, policy: &Policy) {
        let rules = policy.bindings();
        let all = rules.len();
        match self.steering.apply(rules) {
            Ok(Applied {
                added: 0,
                removed: 0,
            }) => {}
            Ok(Applied { added, removed }) => {
                let instance = self.steering.place().path().display();
                tracing::info!(rules = all, added, removed, %instance, "steering");
            }
            Err(error) => tracing::error!(%error, "not all that the policy names is steered"),
        }
    }

    /// Lets no more come. What waits at the listeners can be accepted.
    pub(crate) fn retire(&mut self) {
        if let Err(error) = self.steering.retire() {
            tracing::error!(%error, "steering does not end");
        }
    }

    /// Leaves the kernel as it was found, unless another gateway stands by there.
    pub(crate) fn end(self) {
        let is_left = self.is_own && !self.steering.has_standby().unwrap_or(false);
        if is_left && let Err(error) = ebpf::unload(self.steering.place()) {
            tracing::error!(%error, "steering stays loaded");
        }
    }
}

/// What is to be said of other programs that decide where connections go, by their numbers.
pub fn rivals(foreign: &[u32]) -> Option<String> {
    (!foreign.is_empty()).then(|| {
        format!(
            "other sk_lookup programs are attached to this network namespace and may decide first: \
             {foreign:?} (`bpftool prog show id N` tells what they are)"
        )
    })
}

/// The listeners that are steered to: the workers', and the handle. If there is another gateway, they
/// are of one group with its own.
///
/// A socket of IPv6 with a mapped address is not IPv6-only, so it takes connections of both families,
/// and is itself reached from this machine at most.
fn group(known: Option<u16>, workers: usize) -> io::Result<(Vec<TcpListener>, TcpListener)> {
    let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    let joined = known.map(|port| worker::bind(loopback(port)));
    let handle = match joined {
        Some(Ok(handle)) => handle,
        // Nobody was here, or a stranger has taken the port since.
        None | Some(Err(_)) => worker::bind(loopback(0))?,
    };
    let address = handle.local_addr()?;
    let listeners = (0..workers).map(|_| worker::bind(address));
    Ok((listeners.collect::<Result<_, _>>()?, handle))
}
