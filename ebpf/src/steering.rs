//! The unprivileged part: bindings, listeners and counters of an instance that is loaded.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aya::maps::{
    Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuHashMap, ReusePortSockArray, SockMap,
};
use aya::programs::SkReuseport;
use aya::programs::sk_reuseport::SkReuseportAttachType;
use ebpf_common::{Counters, MOST_WORKERS, RoleEntry, slot};

use crate::bindings::{PREFIX_KEY, PortBinding, from_key, key};
use crate::object::{CHOOSE, check_maps, denied};
use crate::role::{note, own_entry};
use crate::{PinDir, Role, SteerError, sys};

/// `BPF_ANY`.
const ANY: u64 = 0;
/// `BPF_NOEXIST`.
const NEW: u64 = 1;

/// An instance that is loaded: its maps, and the bindings that are in them.
#[derive(Debug)]
pub struct Steering {
    pin_dir: PinDir,
    ports: MapData,
    prefixes: MapData,
    bindings: BTreeSet<PortBinding>,
    loads: Arc<WorkerLoads>,
    role: Role,
    entry: RoleEntry,
    workers: u32,
    serving: bool,
}

/// How a process comes to its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleOrigin {
    /// By being the only one that has it.
    Fresh,
    /// By the anchor socket and the listeners of a process that had it.
    Inherited,
}

impl RoleOrigin {
    /// How the anchor socket is put into its slot.
    const fn claim(self) -> u64 {
        match self {
            Self::Fresh => NEW,
            Self::Inherited => ANY,
        }
    }
}

/// What a change of the bindings came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingChanges {
    /// How many bindings are new.
    pub added: usize,
    /// How many are gone.
    pub removed: usize,
}

impl Steering {
    /// Opens what [`crate::load`] pinned.
    pub fn open(pin_dir: &PinDir, role: Role) -> Result<Self, SteerError> {
        pin_dir.check()?;
        pin_dir.check_owner()?;
        if !pin_dir.pin("PORTS").exists() {
            return Err(SteerError::NotLoaded(pin_dir.path().to_owned()));
        }
        check_maps(pin_dir)?;
        let loads = map(pin_dir, "LOADS")?;
        let loads = sys::SharedLoads::map(loads.fd().as_fd())
            .map_err(SteerError::system("the workers' loads cannot be mapped"))?;
        Ok(Self {
            pin_dir: pin_dir.clone(),
            ports: map(pin_dir, "PORTS")?,
            prefixes: map(pin_dir, "PREFIXES")?,
            bindings: BTreeSet::new(),
            loads: Arc::new(WorkerLoads {
                shared: loads,
                role,
                left: AtomicBool::new(false),
            }),
            role,
            entry: RoleEntry::default(),
            workers: 0,
            serving: false,
        })
    }

    /// Where it is pinned.
    pub fn pin_dir(&self) -> &PinDir {
        &self.pin_dir
    }

    /// Has connections come to these listeners, one for each worker, which are of one
    /// `SO_REUSEPORT` group with `anchor`, a listener that nobody accepts from.
    ///
    /// All must be listening, at best on the port of [`Steering::group`], so that connections that
    /// wait can move from one process to the other. The bindings that are there stay until
    /// [`Steering::apply`].
    ///
    /// Whoever has inherited the anchor socket has the role of the process that had it before, and the first
    /// listeners must be that process's, in their order.
    pub fn serve(
        &mut self,
        listeners: &[&TcpListener],
        anchor: &TcpListener,
        start: RoleOrigin,
    ) -> Result<(), SteerError> {
        let workers = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
        if workers > MOST_WORKERS {
            return Err(SteerError::TooManyWorkers(listeners.len()));
        }
        let role = self.role.number();
        // Before anything leads to the group: without its program, connections would come to the
        // anchor too.
        let choose = SkReuseport::from_pin(
            self.pin_dir.pin(CHOOSE),
            SkReuseportAttachType::SelectOrMigrate,
        )?;
        choose.attach(anchor)?;
        // Whoever has the anchor socket's slot has the role; only then may the rest be written.
        handles(&self.pin_dir)?
            .set(role, anchor, start.claim())
            .map_err(|error| taken(&self.pin_dir, self.role, error))?;
        self.serving = true;
        self.bindings = stored(&self.pin_dir)?;
        let array = Map::ReusePortSockArray(map(&self.pin_dir, "LISTENERS")?);
        let mut array: ReusePortSockArray<MapData> = array.try_into()?;
        for (worker, listener) in (0..).zip(listeners) {
            match array.set(slot(role, worker), *listener, ANY) {
                // A socket has one slot at most, and this one is already there.
                Err(MapError::SyscallError(call))
                    if start == RoleOrigin::Inherited
                        && call.io_error.kind() == io::ErrorKind::ResourceBusy => {}
                put => put?,
            }
        }
        for worker in 0..MOST_WORKERS {
            let load = self.loads.slot(worker as usize);
            load.open.store(0, Relaxed);
            load.chosen.store(0, Relaxed);
        }
        self.entry = own_entry();
        note(&self.pin_dir, self.role, self.entry)?;
        numbers(&self.pin_dir, "WORKERS")?.set(role, workers, 0)?;
        self.workers = workers;
        if let Ok(address) = anchor.local_addr() {
            numbers(&self.pin_dir, "GROUP")?.set(0, u32::from(address.port()), 0)?;
        }
        Ok(())
    }

    /// The port that the listeners of this instance's gateways were last bound to, if there were any.
    pub fn group(&self) -> Result<Option<u16>, SteerError> {
        let port = numbers(&self.pin_dir, "GROUP")?.get(&0, 0)?;
        Ok(u16::try_from(port).ok().filter(|port| *port != 0))
    }

    /// Whether a standby has served here and has not been retired.
    pub fn has_standby(&self) -> Result<bool, SteerError> {
        Ok(numbers(&self.pin_dir, "WORKERS")?.get(&Role::Standby.number(), 0)? > 0)
    }

    /// The workers' loads.
    pub fn loads(&self) -> Arc<WorkerLoads> {
        Arc::clone(&self.loads)
    }

    /// Has these bindings hold and no others, by their difference to those that hold now.
    ///
    /// The additions come first. If one of the calls fails, what holds is what it was, or that with
    /// some of the changes; the next call makes up for it.
    pub fn apply(&mut self, bindings: BTreeSet<PortBinding>) -> Result<BindingChanges, SteerError> {
        if self.has_standby()? {
            // The other process may have changed them.
            self.bindings = stored(&self.pin_dir)?;
        }
        let added: Vec<PortBinding> = bindings.difference(&self.bindings).copied().collect();
        let removed: Vec<PortBinding> = self.bindings.difference(&bindings).copied().collect();
        let refused = |what| SteerError::system(format!("the bindings cannot be {what}"));
        let (ports, prefixes) = keys(&added);
        sys::put_all(self.ports.fd().as_fd(), &ports).map_err(refused("added"))?;
        sys::put_all(self.prefixes.fd().as_fd(), &prefixes).map_err(refused("added"))?;
        self.bindings.extend(&added);
        let (ports, prefixes) = keys(&removed);
        sys::remove_all(self.ports.fd().as_fd(), &ports).map_err(refused("removed"))?;
        sys::remove_all(self.prefixes.fd().as_fd(), &prefixes).map_err(refused("removed"))?;
        self.bindings = bindings;
        Ok(BindingChanges {
            added: added.len(),
            removed: removed.len(),
        })
    }

    /// Leaves the role to the process that is given the listeners and the anchor socket.
    pub fn release(&mut self) {
        self.serving = false;
        self.loads.left.store(true, Relaxed);
    }

    /// Takes the role back from that process, which has ended, whatever it has changed. The next
    /// [`Steering::apply`] makes up for its bindings.
    pub fn restore(&mut self) -> Result<(), SteerError> {
        self.serving = true;
        self.loads.left.store(false, Relaxed);
        self.bindings = stored(&self.pin_dir)?;
        note(&self.pin_dir, self.role, self.entry)?;
        Ok(numbers(&self.pin_dir, "WORKERS")?.set(self.role.number(), self.workers, 0)?)
    }

    /// Takes the anchor socket away: connections to steered ports go to the other process from now on, or are
    /// refused, and those that wait at the listeners can still be accepted.
    pub fn retire(&mut self) -> Result<(), SteerError> {
        if std::mem::take(&mut self.serving) {
            handles(&self.pin_dir)?.clear_index(&self.role.number())?;
            numbers(&self.pin_dir, "WORKERS")?.set(self.role.number(), 0, 0)?;
            note(&self.pin_dir, self.role, RoleEntry::default())?;
        }
        Ok(())
    }

    /// What came to each port that ever was steered.
    pub fn counters(pin_dir: &PinDir) -> Result<Vec<(u16, Counters)>, SteerError> {
        let counters = Map::PerCpuHashMap(map(pin_dir, "COUNTERS")?);
        let counters: PerCpuHashMap<MapData, u16, [u64; 3]> = counters.try_into()?;
        let mut all = Vec::new();
        for entry in &counters {
            let (port, each) = entry?;
            let sum = |n: usize| each.iter().map(|counters| counters[n]).sum();
            all.push((
                port,
                Counters {
                    steered: sum(0),
                    unserved: sum(1),
                    banned: sum(2),
                },
            ));
        }
        all.sort_unstable_by_key(|(port, _)| *port);
        Ok(all)
    }

    /// The bindings that are in the maps, whoever put them there.
    pub fn bindings(pin_dir: &PinDir) -> Result<BTreeSet<PortBinding>, SteerError> {
        stored(pin_dir)
    }
}

pub(crate) fn map(pin_dir: &PinDir, name: &str) -> Result<MapData, SteerError> {
    let path = pin_dir.pin(name);
    if !path.exists() {
        return Err(SteerError::NotLoaded(pin_dir.path().to_owned()));
    }
    MapData::from_pin(&path).map_err(|error| denied(&path, error))
}

fn handles(pin_dir: &PinDir) -> Result<SockMap<MapData>, SteerError> {
    Ok(Map::SockMap(map(pin_dir, "HANDLES")?).try_into()?)
}

pub(crate) fn numbers(pin_dir: &PinDir, name: &str) -> Result<Array<MapData, u32>, SteerError> {
    Ok(Map::Array(map(pin_dir, name)?).try_into()?)
}

fn taken(pin_dir: &PinDir, role: Role, error: MapError) -> SteerError {
    let exists = matches!(
        &error,
        MapError::SyscallError(call) if call.io_error.kind() == io::ErrorKind::AlreadyExists
    );
    if exists {
        SteerError::Taken {
            path: pin_dir.path().to_owned(),
            role,
        }
    } else {
        error.into()
    }
}

/// The bindings that are in the maps.
fn stored(pin_dir: &PinDir) -> Result<BTreeSet<PortBinding>, SteerError> {
    let ports = Map::HashMap(map(pin_dir, "PORTS")?);
    let ports: HashMap<MapData, u16, u8> = ports.try_into()?;
    let prefixes = Map::LpmTrie(map(pin_dir, "PREFIXES")?);
    let prefixes: LpmTrie<MapData, [u8; PREFIX_KEY - 4], u8> = prefixes.try_into()?;
    let mut bindings = BTreeSet::new();
    for port in ports.keys() {
        bindings.insert(PortBinding::Port(port?));
    }
    for key in prefixes.keys() {
        let key = key?;
        let at = from_key(key.prefix_len(), key.data());
        bindings.extend(at.map(|(port, prefix)| PortBinding::At(port, prefix)));
    }
    Ok(bindings)
}

/// The keys of both tables.
fn keys(bindings: &[PortBinding]) -> (Vec<[u8; 2]>, Vec<[u8; PREFIX_KEY]>) {
    let (mut ports, mut prefixes) = (Vec::new(), Vec::new());
    for rule in bindings {
        match *rule {
            PortBinding::Port(port) => ports.push(port.to_ne_bytes()),
            PortBinding::At(port, prefix) => prefixes.push(key(port, prefix)),
        }
    }
    (ports, prefixes)
}

/// How busy each worker of one process is, shared with the kernel.
#[derive(Debug)]
pub struct WorkerLoads {
    shared: sys::SharedLoads,
    role: Role,
    /// Whether another process counts there now.
    left: AtomicBool,
}

impl WorkerLoads {
    fn slot(&self, worker: usize) -> &sys::LoadSlot {
        let first = slot(self.role.number(), 0) as usize;
        &self.shared.slots()[first + worker]
    }

    /// A worker has one connection more.
    pub fn increment(&self, worker: usize) {
        if !self.left.load(Relaxed) {
            self.slot(worker).open.fetch_add(1, Relaxed);
        }
    }

    /// A worker has one connection less.
    pub fn decrement(&self, worker: usize) {
        if !self.left.load(Relaxed) {
            // One that came before the count began anew is not in it.
            let less = |open: u64| open.checked_sub(1);
            self.slot(worker)
                .open
                .fetch_update(Relaxed, Relaxed, less)
                .ok();
        }
    }

    /// A worker has accepted all that it was given.
    pub fn reset_chosen(&self, worker: usize) {
        self.slot(worker).chosen.store(0, Relaxed);
    }

    /// How many connections a worker has.
    pub fn open(&self, worker: usize) -> u64 {
        self.slot(worker).open.load(Relaxed)
    }
}
