//! The unprivileged part: bindings, listeners and counters of a loaded instance.

use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;

use aya::maps::{
    HashMap, LpmTrie, Map, MapData, MapError, PerCpuHashMap, ReusePortSockArray, SockMap,
};
use aya::programs::SkReuseport;
use aya::programs::sk_reuseport::SkReuseportAttachType;
use ebpf_common::{Counters, MOST_WORKERS, RoleEntry, slot};

use crate::bindings::{PREFIX_KEY, PortBinding, from_key, key};
use crate::error::SteerError;
use crate::maps::{CHOOSE, check_maps, map, numbers};
use crate::pin_dir::PinDir;
use crate::role::Role;
use crate::role_holder::{note, own_entry};
use crate::sys;
use crate::worker_loads::WorkerLoads;

/// `BPF_ANY`: sets an entry, existing or not.
const ANY: u64 = 0;
/// `BPF_NOEXIST`: sets an entry only if it does not exist.
const NEW: u64 = 1;

/// A loaded instance as a gateway uses it: its maps, and the bindings in them.
///
/// [`Steering::open`] opens it, [`Steering::serve`] takes its role, [`Steering::apply`] sets the
/// bindings and [`Steering::retire`] leaves the role.
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

/// Origin of a process's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleOrigin {
    /// The role is free: taking it fails if another process has it.
    Fresh,
    /// The role is inherited with the anchor socket and the listeners of a process that had it.
    Inherited,
}

impl RoleOrigin {
    /// Flag of the map update that puts the anchor socket into its slot.
    const fn claim(self) -> u64 {
        match self {
            Self::Fresh => NEW,
            Self::Inherited => ANY,
        }
    }
}

/// Numbers of bindings that [`Steering::apply`] has added and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingChanges {
    /// The number of new bindings.
    pub added: usize,
    /// The number of removed bindings.
    pub removed: usize,
}

impl Steering {
    /// Opens the maps that [`crate::load`] pinned; no connection is steered to this process yet.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the maps do not exist, [`SteerError::NotOurs`] if this user may
    /// not use them, [`SteerError::Unsafe`] if other users can change the directory,
    /// [`SteerError::Incompatible`] for maps of another version, and others.
    pub fn open(pin_dir: &PinDir, role: Role) -> Result<Self, SteerError> {
        pin_dir.check()?;
        pin_dir.check_owner()?;
        if !pin_dir.pin("PORTS").exists() {
            return Err(SteerError::NotLoaded(pin_dir.path().to_owned()));
        }
        check_maps(pin_dir)?;
        let loads = map(pin_dir, "LOADS")?;
        let loads = sys::SharedLoads::map(loads.fd().as_fd())
            .map_err(SteerError::system("cannot map the loads of the workers"))?;
        Ok(Self {
            pin_dir: pin_dir.clone(),
            ports: map(pin_dir, "PORTS")?,
            prefixes: map(pin_dir, "PREFIXES")?,
            bindings: BTreeSet::new(),
            loads: Arc::new(WorkerLoads::new(loads, role)),
            role,
            entry: RoleEntry::default(),
            workers: 0,
            serving: false,
        })
    }

    /// Directory in which the instance is pinned.
    pub fn pin_dir(&self) -> &PinDir {
        &self.pin_dir
    }

    /// Takes the role and steers connections to these listeners, one for each worker.
    ///
    /// The listeners are in one `SO_REUSEPORT` group with `anchor`, a listener from which no
    /// process accepts. All must be listening, preferably on the port of [`Steering::group`], so
    /// that waiting connections can move from one process to another. Existing bindings remain
    /// until [`Steering::apply`].
    ///
    /// With [`RoleOrigin::Inherited`] the anchor socket and the first listeners must be those of
    /// the process that had the role before, in their order.
    ///
    /// # Errors
    ///
    /// [`SteerError::TooManyWorkers`], [`SteerError::Taken`] if another process has the role, and
    /// errors of the system.
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
        // Before anything leads to the group: without its program, connections would also go to the
        // anchor.
        let choose = SkReuseport::from_pin(
            self.pin_dir.pin(CHOOSE),
            SkReuseportAttachType::SelectOrMigrate,
        )?;
        choose.attach(anchor)?;
        // The process that has the anchor socket's slot has the role; only it may write the rest.
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
        self.loads.clear();
        self.entry = own_entry();
        note(&self.pin_dir, self.role, self.entry)?;
        numbers(&self.pin_dir, "WORKERS")?.set(role, workers, 0)?;
        self.workers = workers;
        if let Ok(address) = anchor.local_addr() {
            numbers(&self.pin_dir, "GROUP")?.set(0, u32::from(address.port()), 0)?;
        }
        Ok(())
    }

    /// Port to which the listeners of this instance's gateways were last bound; `None` before the
    /// first.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if the map of the port cannot be opened or read.
    pub fn group(&self) -> Result<Option<u16>, SteerError> {
        let port = numbers(&self.pin_dir, "GROUP")?.get(&0, 0)?;
        Ok(u16::try_from(port).ok().filter(|port| *port != 0))
    }

    /// Returns true if a standby has called [`Steering::serve`] and has not retired.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if the map of workers cannot be opened or read.
    pub fn has_standby(&self) -> Result<bool, SteerError> {
        Ok(numbers(&self.pin_dir, "WORKERS")?.get(&Role::Standby.number(), 0)? > 0)
    }

    /// Loads of this process's workers, for the workers to update.
    pub fn loads(&self) -> Arc<WorkerLoads> {
        Arc::clone(&self.loads)
    }

    /// Replaces the bindings by these, changing only those that differ.
    ///
    /// Additions are made before removals. After an error the old bindings hold, or the old ones
    /// with some of the changes; the next successful call corrects them.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if a map cannot be read, or the kernel does not take a change, because
    /// the map is full, for example.
    pub fn apply(&mut self, bindings: BTreeSet<PortBinding>) -> Result<BindingChanges, SteerError> {
        if self.has_standby()? {
            // The other process may have changed them.
            self.bindings = stored(&self.pin_dir)?;
        }
        let added: Vec<PortBinding> = bindings.difference(&self.bindings).copied().collect();
        let removed: Vec<PortBinding> = self.bindings.difference(&bindings).copied().collect();
        let refused = |what| SteerError::system(format!("cannot {what} bindings"));
        let (ports, prefixes) = keys(&added);
        sys::put_all(self.ports.fd().as_fd(), &ports).map_err(refused("add"))?;
        sys::put_all(self.prefixes.fd().as_fd(), &prefixes).map_err(refused("add"))?;
        self.bindings.extend(&added);
        let (ports, prefixes) = keys(&removed);
        sys::remove_all(self.ports.fd().as_fd(), &ports).map_err(refused("remove"))?;
        sys::remove_all(self.prefixes.fd().as_fd(), &prefixes).map_err(refused("remove"))?;
        self.bindings = bindings;
        Ok(BindingChanges {
            added: added.len(),
            removed: removed.len(),
        })
    }

    /// Hands the role to the process that inherits the listeners and the anchor socket.
    ///
    /// From then on this process does not count its loads; [`Steering::restore`] undoes it.
    pub fn release(&mut self) {
        self.serving = false;
        self.loads.hand_over();
    }

    /// Takes back the role that [`Steering::release`] handed to a process which has ended, even if
    /// that process has made changes.
    ///
    /// The next [`Steering::apply`] corrects the bindings.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if a map cannot be opened, read or changed.
    pub fn restore(&mut self) -> Result<(), SteerError> {
        self.serving = true;
        self.loads.take_back();
        self.bindings = stored(&self.pin_dir)?;
        note(&self.pin_dir, self.role, self.entry)?;
        Ok(numbers(&self.pin_dir, "WORKERS")?.set(self.role.number(), self.workers, 0)?)
    }

    /// Leaves the role: from now on connections to steered ports go to the process of the other
    /// role, or are refused. Those that wait at the listeners can still be accepted.
    ///
    /// Does nothing if this process does not serve.
    ///
    /// # Errors
    ///
    /// A [`SteerError`] if a map cannot be opened or changed. A second call does nothing.
    pub fn retire(&mut self) -> Result<(), SteerError> {
        if std::mem::take(&mut self.serving) {
            handles(&self.pin_dir)?.clear_index(&self.role.number())?;
            numbers(&self.pin_dir, "WORKERS")?.set(self.role.number(), 0, 0)?;
            note(&self.pin_dir, self.role, RoleEntry::default())?;
        }
        Ok(())
    }

    /// Counters of each port that has been steered since the instance was loaded, sorted by port.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the
    /// counters cannot be read.
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

    /// Reads the bindings in the maps, of any process; needs no role.
    ///
    /// # Errors
    ///
    /// [`SteerError::NotLoaded`] if the instance is not loaded, another [`SteerError`] if the maps
    /// cannot be read.
    pub fn bindings(pin_dir: &PinDir) -> Result<BTreeSet<PortBinding>, SteerError> {
        stored(pin_dir)
    }
}

fn handles(pin_dir: &PinDir) -> Result<SockMap<MapData>, SteerError> {
    Ok(Map::SockMap(map(pin_dir, "HANDLES")?).try_into()?)
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

/// Reads the bindings in the maps.
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

/// Keys of the bindings in the tables `PORTS` and `PREFIXES`.
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
