//! The privileged part: loading, attaching and pinning of the programs and maps, and unloading.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{SkLookup, SkReuseport};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use rustix::fs::{Gid, Uid, chown};
use rustix::thread::{CapabilitySet, capabilities};

use crate::error::SteerError;
use crate::link::{AttachmentState, NAMESPACE};
use crate::maps::{CHOOSE, LINK, MAPS, STEER, check_maps};
use crate::pin_dir::PinDir;
use crate::sys;

/// Object file with the programs, as `ebpf/regen` built it.
static OBJECT: &[u8] = include_bytes_aligned!("../objects/portcullis.o");

/// User and group to which [`load`] gives the maps of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinOwner {
    /// The user ID.
    pub user: u32,
    /// The group ID.
    pub group: u32,
}

/// Loads the programs into the kernel, attaches them to this network namespace and pins all of it.
///
/// Maps that are pinned there already are kept, with their bindings and counters. An attached
/// program is replaced without a moment in which none is attached. Without an `owner`, the maps
/// keep the one that they have.
///
/// Returns the IDs of other programs at the same hook, which decide before or after this one.
///
/// # Errors
///
/// [`SteerError::Capability`] without `CAP_BPF` and `CAP_NET_ADMIN`, [`SteerError::Elsewhere`] if
/// the instance is attached to another network namespace, [`SteerError::Incompatible`] for maps of
/// another version, and others.
pub fn load(pin_dir: &PinDir, owner: Option<PinOwner>) -> Result<Vec<u32>, SteerError> {
    pin_dir.check()?;
    require_capabilities()?;
    let directory = pin_dir.path();
    pin_dir.make()?;
    check_maps(pin_dir)?;
    let attached = AttachmentState::of(pin_dir)?;
    if attached == AttachmentState::Elsewhere {
        return Err(SteerError::Elsewhere(directory.to_owned()));
    }
    let owner = owner.or_else(|| owner_of(pin_dir));
    let mut object = pinned(pin_dir)?;
    let namespace =
        File::open(NAMESPACE).map_err(SteerError::system("cannot open the network namespace"))?;
    attach(pin_dir, &mut object, &namespace, attached)?;
    if let Some(owner) = owner {
        give(pin_dir, owner)?;
    }
    other_programs(pin_dir, &namespace)
}

/// Detaches the programs and removes all pins of the instance and their directory.
///
/// # Errors
///
/// [`SteerError::NotLoaded`] if there are no pins, another [`SteerError`] if the directory is not
/// safe, or if the link cannot be detached or a pin removed.
pub fn unload(pin_dir: &PinDir) -> Result<(), SteerError> {
    pin_dir.check()?;
    let directory = pin_dir.path();
    let names = [LINK, STEER, CHOOSE]
        .into_iter()
        .chain(MAPS.map(|(name, ..)| name));
    let link = pin_dir.pin(LINK);
    if link.exists() {
        sys::detach_link(&link)
            .map_err(SteerError::system("cannot detach the attached program"))?;
    }
    let mut any = false;
    for name in names {
        let pin = pin_dir.pin(name);
        match fs::remove_file(&pin) {
            Ok(()) => any = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(SteerError::system(format!(
                    "cannot remove {}",
                    pin.display()
                ))(error));
            }
        }
    }
    if !any {
        return Err(SteerError::NotLoaded(directory.to_owned()));
    }
    fs::remove_dir(directory).map_err(SteerError::system(format!(
        "cannot remove {}",
        directory.display()
    )))
}

fn require_capabilities() -> Result<(), SteerError> {
    let held = capabilities(None)
        .map_err(|error| SteerError::system("cannot read the capabilities")(error.into()))?
        .effective;
    let all = held.contains(CapabilitySet::SYS_ADMIN);
    for (capability, name) in [
        (CapabilitySet::BPF, "CAP_BPF"),
        (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    ] {
        let implied = all && capability == CapabilitySet::BPF;
        if !held.contains(capability) && !implied {
            return Err(SteerError::Capability(name));
        }
    }
    Ok(())
}

/// Loads the object with its maps pinned: those that exist, or new ones.
fn pinned(pin_dir: &PinDir) -> Result<Ebpf, SteerError> {
    let pins = MAPS.map(|(name, ..)| (name, pin_dir.pin(name)));
    let mut loader = EbpfLoader::new();
    for (name, pin) in &pins {
        loader.map_pin_path(name, pin.as_path());
    }
    Ok(loader.load(OBJECT)?)
}

fn attach(
    pin_dir: &PinDir,
    object: &mut Ebpf,
    namespace: &File,
    attached: AttachmentState,
) -> Result<(), SteerError> {
    let choose: &mut SkReuseport = object
        .program_mut(CHOOSE)
        .expect("the object has it")
        .try_into()?;
    choose.load()?;
    renew(&pin_dir.pin(CHOOSE), |path| Ok(choose.pin(path)?))?;

    let steer: &mut SkLookup = object
        .program_mut(STEER)
        .expect("the object has it")
        .try_into()?;
    steer.load()?;
    renew(&pin_dir.pin(STEER), |path| Ok(steer.pin(path)?))?;
    let link = pin_dir.pin(LINK);
    if attached == AttachmentState::Here {
        return sys::update_link(&link, steer.fd()?.as_fd())
            .map_err(SteerError::system("cannot replace the attached program"));
    }
    // A detached link stays detached.
    fs::remove_file(&link).ok();
    let attached = steer.attach(namespace)?;
    let attached = FdLink::from(steer.take_link(attached)?);
    attached.pin(link)?;
    Ok(())
}

/// Pins an object under a name, in place of another that may be pinned there.
fn renew(path: &Path, pin: impl FnOnce(&Path) -> Result<(), SteerError>) -> Result<(), SteerError> {
    // A bpffs does not accept names with dots.
    let mut aside = path.as_os_str().to_owned();
    aside.push("-aside");
    let aside = Path::new(&aside);
    fs::remove_file(aside).ok();
    pin(aside)?;
    fs::rename(aside, path).map_err(SteerError::system(format!(
        "cannot create {}",
        path.display()
    )))
}

/// Owner of the maps that exist; maps that this version adds are given to the same user.
fn owner_of(pin_dir: &PinDir) -> Option<PinOwner> {
    let maps = fs::metadata(pin_dir.pin("PORTS")).ok()?;
    Some(PinOwner {
        user: maps.st_uid(),
        group: maps.st_gid(),
    })
}

/// Gives the user the maps, and the program that a gateway attaches to its own sockets.
///
/// The program that decides for the whole namespace, and its link, remain root's.
fn give(pin_dir: &PinDir, owner: PinOwner) -> Result<(), SteerError> {
    for name in MAPS.map(|(name, ..)| name).into_iter().chain([CHOOSE]) {
        let path = pin_dir.pin(name);
        let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
        chown(&path, Some(user), Some(group)).map_err(|error| {
            SteerError::system(format!("cannot change the owner of {}", path.display()))(
                error.into(),
            )
        })?;
    }
    Ok(())
}

/// IDs of the other programs at the `sk_lookup` hook of the namespace.
fn other_programs(pin_dir: &PinDir, namespace: &File) -> Result<Vec<u32>, SteerError> {
    let own = aya::programs::ProgramInfo::from_pin(pin_dir.pin(STEER))?.id();
    let all = sys::lookup_programs(namespace).map_err(SteerError::system(
        "cannot list the programs of the network namespace",
    ))?;
    Ok(all.into_iter().filter(|id| *id != own).collect())
}
