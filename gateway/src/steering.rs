//! Steering: the kernel hands this gateway connections, in addition to those to its own addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ebpf::{BanTable, BindingChanges, PinDir, Role, RoleOrigin, SteerError, Steering, WorkerLoads};
use host::inherited_listeners::InheritedListeners;
use policy::{Freebind, Policy, SteerMode};
use thiserror::Error;

use crate::listen_socket;

mod bindings;

pub(crate) use bindings::bindings;

/// Reason for which steering is not available.
#[derive(Debug, Error)]
pub enum SteeringUnavailable {
    /// The steering programs cannot be loaded or used.
    #[error(transparent)]
    Kernel(#[from] SteerError),
    /// A standby needs steering, which the policy does not configure or turns off.
    #[error("a standby needs steering, and the policy has no `steer` or turns it off")]
    NoStandby,
    /// The listeners for steered connections cannot be bound.
    #[error("cannot bind the listeners for steered connections: {0}")]
    Listen(#[from] io::Error),
}

/// The steering of a gateway that serves. It is made by [`PreparedSteering::begin`].
#[derive(Debug)]
pub(crate) struct ActiveSteering {
    steering: Steering,
    /// The kernel uses it to find the workers' listeners; no worker accepts from it.
    anchor: TcpListener,
    /// True if the steering programs are unloaded at the gateway's end.
    is_own: bool,
}

/// Consequence of steering that is not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SteeringNeed {
    /// The gateway does not start, as the policy says, or because it is a standby.
    Required,
    /// The gateway serves its `listen` addresses only.
    Optional,
}

/// Steering that is prepared for this gateway, by [`prepare`]. Nothing has changed in the kernel
/// yet.
#[derive(Debug)]
pub(crate) struct PreparedSteering {
    pin_dir: PinDir,
    role: Role,
    listeners: Vec<TcpListener>,
    anchor: TcpListener,
    start: RoleOrigin,
    need: SteeringNeed,
    /// True if the process that served before had loaded the steering programs.
    was_own: bool,
}

/// Prepares to take an instance's role in the kernel. Returns `None` if the policy does not steer,
/// or if steering fails but is not required.
///
/// # Errors
///
/// Steering is required, as it always is for a standby, and not available.
pub(crate) fn prepare(
    pin_dir: &PinDir,
    role: Role,
    policy: &Policy,
    workers: usize,
    inherited: &mut InheritedListeners,
) -> Result<Option<PreparedSteering>, SteeringUnavailable> {
    let mode = policy.gateway().steer.as_ref().map(|steer| steer.mode);
    let need = match (mode, role) {
        (None | Some(SteerMode::Off), Role::Primary) => return Ok(None),
        (None | Some(SteerMode::Off), Role::Standby) => return Err(SteeringUnavailable::NoStandby),
        (Some(SteerMode::Required), _) | (_, Role::Standby) => SteeringNeed::Required,
        (Some(SteerMode::Auto), Role::Primary) => SteeringNeed::Optional,
    };
    let was_own = inherited.owns_steering();
    let prepared = match inherited.take_steered() {
        Some((listeners, anchor)) => join(listeners, &anchor, workers)
            .map(|listeners| (listeners, anchor, RoleOrigin::Inherited))
            .map_err(SteeringUnavailable::from),
        None => group(pin_dir, role, workers),
    };
    need.result(prepared.map(|(listeners, anchor, start)| PreparedSteering {
        pin_dir: pin_dir.clone(),
        role,
        listeners,
        anchor,
        start,
        need,
        was_own,
    }))
}

impl PreparedSteering {
    /// Takes the instance's role in the kernel, and returns the workers' listeners too, in the
    /// order of their slots. A primary loads the steering programs if they are not loaded. Returns
    /// `None` if steering fails but is not required.
    ///
    /// # Errors
    ///
    /// [`SteeringUnavailable`] if steering is required, and its listeners cannot be bound or the
    /// kernel refuses it.
    pub(crate) fn begin(
        self,
        workers: usize,
    ) -> Result<Option<(ActiveSteering, Vec<TcpListener>)>, SteeringUnavailable> {
        let need = self.need;
        need.result(self.take_role(workers))
    }

    fn take_role(
        self,
        workers: usize,
    ) -> Result<(ActiveSteering, Vec<TcpListener>), SteeringUnavailable> {
        let Self {
            pin_dir,
            role,
            listeners,
            anchor,
            start,
            was_own,
            ..
        } = self;
        let (mut steering, is_own) = match Steering::open(&pin_dir, role) {
            Err(SteerError::NotLoaded(_)) if role == Role::Primary => {
                let foreign = ebpf::load(&pin_dir, None)?;
                if let Some(warning) = other_programs_warning(&foreign) {
                    tracing::warn!("{warning}");
                }
                (Steering::open(&pin_dir, role)?, true)
            }
            opened => (opened?, was_own),
        };
        let serving: Vec<_> = listeners.iter().take(workers).collect();
        steering.serve(&serving, &anchor, start)?;
        let steered = ActiveSteering {
            steering,
            anchor,
            is_own,
        };
        Ok((steered, listeners))
    }
}

impl SteeringNeed {
    /// Returns an error only if steering is required; otherwise it is logged.
    fn result<T>(
        self,
        result: Result<T, SteeringUnavailable>,
    ) -> Result<Option<T>, SteeringUnavailable> {
        match (self, result) {
            (_, Ok(done)) => Ok(Some(done)),
            (Self::Required, Err(error)) => Err(error),
            (Self::Optional, Err(error)) => {
                tracing::warn!(%error, "steering is not active; serving the `listen` addresses only");
                Ok(None)
            }
        }
    }
}

impl ActiveSteering {
    /// Returns the loads of the workers, which the kernel reads.
    pub(crate) fn worker_loads(&self) -> Arc<WorkerLoads> {
        self.steering.loads()
    }

    /// Opens the table of banned sources.
    ///
    /// # Errors
    ///
    /// Those of [`BanTable::open`].
    pub(crate) fn bans(&self) -> Result<BanTable, SteerError> {
        BanTable::open(self.steering.pin_dir())
    }

    /// Makes the kernel steer what the policy names, from now on. If it cannot, that is logged, and
    /// the next reload tries again.
    pub(crate) fn apply(&mut self, policy: &Policy) {
        let bindings = bindings(policy);
        let all = bindings.len();
        match self.steering.apply(bindings) {
            Ok(BindingChanges {
                added: 0,
                removed: 0,
            }) => {}
            Ok(BindingChanges { added, removed }) => {
                let instance = self.steering.pin_dir().path().display();
                tracing::info!(bindings = all, added, removed, %instance, "steering");
            }
            Err(error) => {
                tracing::error!(%error, "cannot apply all steering bindings of the policy");
            }
        }
    }

    /// Returns the socket that the kernel uses to find the workers' listeners.
    pub(crate) fn anchor(&self) -> BorrowedFd<'_> {
        self.anchor.as_fd()
    }

    /// Returns true if the steering programs are unloaded at the gateway's end.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Leaves the gateway's role to the process that has the same listeners.
    pub(crate) fn release(&mut self) {
        self.steering.release();
    }

    /// Takes the role back, and makes the kernel steer what the policy names.
    pub(crate) fn restore(&mut self, policy: &Policy) {
        if let Err(error) = self.steering.restore() {
            tracing::error!(%error, "cannot restore the steering bindings");
        }
        self.apply(policy);
    }

    /// Stops steering. Connections that are queued at the listeners can still be accepted.
    pub(crate) fn retire(&mut self) {
        if let Err(error) = self.steering.retire() {
            tracing::error!(%error, "cannot stop steering");
        }
    }

    /// Unloads the steering programs if this gateway loaded them, unless there is a standby.
    pub(crate) fn end(self) {
        let is_left = self.is_own && !self.steering.has_standby().unwrap_or(false);
        if is_left && let Err(error) = ebpf::unload(self.steering.pin_dir()) {
            tracing::error!(%error, "cannot unload the steering programs");
        }
    }
}

/// Returns a warning about other `sk_lookup` programs, which may decide first where connections go;
/// `None` if there are none. `foreign` contains their numbers.
pub fn other_programs_warning(foreign: &[u32]) -> Option<String> {
    (!foreign.is_empty()).then(|| {
        format!(
            "other sk_lookup programs are attached to this network namespace and may decide first: \
             {foreign:?} (`bpftool prog show id N` shows them)"
        )
    })
}

/// Binds the listeners that are steered to: one for each worker, and the anchor. If there is
/// another gateway, they are in one group with its own.
///
/// An IPv6 socket with a mapped address is not IPv6-only, so it takes connections of both families;
/// at its own address it is reached only from this machine.
fn group(
    pin_dir: &PinDir,
    role: Role,
    workers: usize,
) -> Result<(Vec<TcpListener>, TcpListener, RoleOrigin), SteeringUnavailable> {
    let known = match Steering::open(pin_dir, role) {
        Err(SteerError::NotLoaded(_)) if role == Role::Primary => None,
        opened => opened?.group()?,
    };
    let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
    let joined = known.map(|port| listen_socket::bind(loopback(port), Freebind::Off));
    let anchor = match joined {
        Some(Ok(anchor)) => anchor,
        // There was no other gateway, or another program has taken its port since.
        None | Some(Err(_)) => listen_socket::bind(loopback(0), Freebind::Off)?,
    };
    let listeners = join(Vec::new(), &anchor, workers)?;
    Ok((listeners, anchor, RoleOrigin::Fresh))
}

/// Binds further listeners until there is one for each worker, in one group with the anchor.
fn join(
    mut listeners: Vec<TcpListener>,
    anchor: &TcpListener,
    workers: usize,
) -> io::Result<Vec<TcpListener>> {
    while listeners.len() < workers {
        listeners.push(listen_socket::bind(anchor.local_addr()?, Freebind::Off)?);
    }
    listeners
        .iter()
        .try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok(listeners)
}
