//! What the kernel hands to this gateway, beside what comes to its own addresses.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use ebpf::{BanTable, BindingChanges, PinDir, Role, RoleOrigin, SteerError, Steering, WorkerLoads};
use thiserror::Error;

use crate::inherited_listeners::InheritedListeners;
use crate::policy::{Freebind, Policy, SteerMode};
use crate::worker;

/// Why nothing can be steered.
#[derive(Debug, Error)]
pub enum SteeringUnavailable {
    /// The steering programs cannot be loaded.
    #[error(transparent)]
    Kernel(#[from] SteerError),
    /// A standby needs what it is steered by.
    #[error("a standby needs eBPF: the policy has no `steer`, or turns it off")]
    NoStandby,
    /// There are no listeners to steer to.
    #[error("cannot bind the listeners for steered connections: {0}")]
    Listen(#[from] io::Error),
}

/// Steering, of a gateway that serves.
#[derive(Debug)]
pub(crate) struct ActiveSteering {
    steering: Steering,
    /// By its means the kernel finds the workers' listeners; nobody accepts from it.
    anchor: TcpListener,
    /// Whether it goes when the gateway does.
    is_own: bool,
}

/// What it takes to have the kernel steer to this gateway. Nothing has changed in the kernel yet.
#[derive(Debug)]
pub(crate) struct PreparedSteering {
    pin_dir: PinDir,
    role: Role,
    listeners: Vec<TcpListener>,
    anchor: TcpListener,
    start: RoleOrigin,
    is_required: bool,
    /// Whether the process that served before had loaded it.
    was_own: bool,
}

/// Prepares to take an instance's place in the kernel, if the policy wants to steer.
pub(crate) fn prepare(
    pin_dir: &PinDir,
    role: Role,
    policy: &Policy,
    workers: usize,
    inherited: &mut InheritedListeners,
) -> Result<Option<PreparedSteering>, SteeringUnavailable> {
    let mode = policy.gateway().steer.as_ref().map(|steer| steer.mode);
    let is_required = match (mode, role) {
        (None | Some(SteerMode::Off), Role::Primary) => return Ok(None),
        (None | Some(SteerMode::Off), Role::Standby) => return Err(SteeringUnavailable::NoStandby),
        (Some(SteerMode::Required), _) | (_, Role::Standby) => true,
        (Some(SteerMode::Auto), Role::Primary) => false,
    };
    let was_own = inherited.owns_steering();
    let prepared = match inherited.take_steered() {
        Some((listeners, anchor)) => join(listeners, &anchor, workers)
            .map(|listeners| (listeners, anchor, RoleOrigin::Inherited))
            .map_err(SteeringUnavailable::from),
        None => group(pin_dir, role, workers),
    };
    optional(
        is_required,
        prepared.map(|(listeners, anchor, start)| PreparedSteering {
            pin_dir: pin_dir.clone(),
            role,
            listeners,
            anchor,
            start,
            is_required,
            was_own,
        }),
    )
}

impl PreparedSteering {
    /// Takes the instance's place. What is not loaded there is loaded, if that is allowed. Returns the
    /// workers' listeners too, by their slots.
    pub(crate) fn begin(
        self,
        workers: usize,
    ) -> Result<Option<(ActiveSteering, Vec<TcpListener>)>, SteeringUnavailable> {
        let is_required = self.is_required;
        optional(is_required, self.take_role(workers))
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

/// An error is one only if steering is required.
fn optional<T>(
    is_required: bool,
    result: Result<T, SteeringUnavailable>,
) -> Result<Option<T>, SteeringUnavailable> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_required => Err(error),
        Err(error) => {
            tracing::warn!(%error, "steering is not active; serving the `listen` addresses only");
            Ok(None)
        }
    }
}

impl ActiveSteering {
    /// How busy the workers are, as the kernel is to know.
    pub(crate) fn worker_loads(&self) -> Arc<WorkerLoads> {
        self.steering.loads()
    }

    /// The sources that are banned.
    pub(crate) fn bans(&self) -> Result<BanTable, SteerError> {
        BanTable::open(self.steering.pin_dir())
    }

    /// Has the kernel steer what the policy names, from now on. If it cannot, that is logged, and
    /// the next reload tries again.
    pub(crate) fn apply(&mut self, policy: &Policy) {
        let bindings = policy.bindings();
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

    /// By its means the kernel finds the workers' listeners.
    pub(crate) fn anchor(&self) -> BorrowedFd<'_> {
        self.anchor.as_fd()
    }

    /// Whether it goes when the gateway does.
    pub(crate) fn is_own(&self) -> bool {
        self.is_own
    }

    /// Leaves the gateway's role to the process that has the same listeners.
    pub(crate) fn release(&mut self) {
        self.steering.release();
    }

    /// Takes the role back, and has the kernel steer what the policy names.
    pub(crate) fn restore(&mut self, policy: &Policy) {
        if let Err(error) = self.steering.restore() {
            tracing::error!(%error, "cannot restore the steering bindings");
        }
        self.apply(policy);
    }

    /// Lets no more come. What waits at the listeners can be accepted.
    pub(crate) fn retire(&mut self) {
        if let Err(error) = self.steering.retire() {
            tracing::error!(%error, "cannot stop steering");
        }
    }

    /// Leaves the kernel as it was found, unless another gateway stands by there.
    pub(crate) fn end(self) {
        let is_left = self.is_own && !self.steering.has_standby().unwrap_or(false);
        if is_left && let Err(error) = ebpf::unload(self.steering.pin_dir()) {
            tracing::error!(%error, "cannot unload the steering programs");
        }
    }
}

/// What is to be said of other programs that decide where connections go, by their numbers.
pub fn other_programs_warning(foreign: &[u32]) -> Option<String> {
    (!foreign.is_empty()).then(|| {
        format!(
            "other sk_lookup programs are attached to this network namespace and may decide first: \
             {foreign:?} (`bpftool prog show id N` tells what they are)"
        )
    })
}

/// What is steered to: the workers' listeners, and the anchor. If there is another gateway, they are of
/// one group with its own.
///
/// A socket of IPv6 with a mapped address is not IPv6-only, so it takes connections of both families,
/// and is itself reached from this machine at most.
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
    let joined = known.map(|port| worker::bind(loopback(port), Freebind::Off));
    let anchor = match joined {
        Some(Ok(anchor)) => anchor,
        // Nobody was here, or a stranger has taken the port since.
        None | Some(Err(_)) => worker::bind(loopback(0), Freebind::Off)?,
    };
    let listeners = join(Vec::new(), &anchor, workers)?;
    Ok((listeners, anchor, RoleOrigin::Fresh))
}

/// Binds what is missing of a listener for each worker, in one group with the anchor.
fn join(
    mut listeners: Vec<TcpListener>,
    anchor: &TcpListener,
    workers: usize,
) -> io::Result<Vec<TcpListener>> {
    while listeners.len() < workers {
        listeners.push(worker::bind(anchor.local_addr()?, Freebind::Off)?);
    }
    listeners
        .iter()
        .try_for_each(|listener| listener.set_nonblocking(true))?;
    Ok(listeners)
}
