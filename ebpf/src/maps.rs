//! Names under which an instance is pinned, and its maps: their layout, and how they are opened.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError, MapInfo};
use ebpf_common::{Counters, Loads, MOST_WORKERS, ROLES, RoleEntry, Source};

use crate::bindings::PREFIX_KEY;
use crate::error::SteerError;
use crate::pin_dir::PinDir;

pub(crate) const LINK: &str = "link";
pub(crate) const STEER: &str = "steer";
pub(crate) const CHOOSE: &str = "choose";

/// Maps of an instance: name, sizes of key and value in bytes, and greatest number of entries.
pub(crate) const MAPS: [(&str, usize, usize, u32); 11] = [
    ("PORTS", 2, 1, 65_536),
    ("PREFIXES", PREFIX_KEY, 1, 1 << 20),
    ("COUNTERS", 2, size_of::<Counters>(), 65_536),
    ("BANS", size_of::<Source>(), 8, 65_536),
    ("HANDLES", 4, 4, ROLES),
    ("LISTENERS", 4, 4, ROLES * MOST_WORKERS),
    ("LOADS", 4, size_of::<Loads>(), ROLES),
    ("WORKERS", 4, 4, ROLES),
    ("GROUP", 4, 4, 1),
    ("PROCESSES", 4, size_of::<RoleEntry>(), ROLES),
    ("TURN", 4, 8, 1),
];

/// Opens a map of an instance.
pub(crate) fn map(pin_dir: &PinDir, name: &str) -> Result<MapData, SteerError> {
    let path = pin_dir.pin(name);
    if !path.exists() {
        return Err(SteerError::NotLoaded(pin_dir.path().to_owned()));
    }
    MapData::from_pin(&path).map_err(|error| denied(&path, error))
}

/// Opens an array of numbers of an instance.
pub(crate) fn numbers(pin_dir: &PinDir, name: &str) -> Result<Array<MapData, u32>, SteerError> {
    Ok(Map::Array(map(pin_dir, name)?).try_into()?)
}

/// Checks that the pinned maps have the layout of this version; missing ones are ignored.
pub(crate) fn check_maps(pin_dir: &PinDir) -> Result<(), SteerError> {
    for (name, key, value, most) in MAPS {
        let path = pin_dir.pin(name);
        if !path.exists() {
            continue;
        }
        let info = MapData::from_pin(&path).and_then(|map| map.info());
        let info = info.map_err(|error| denied(&path, error))?;
        check_map(&path, &info, (key, value, most))?;
    }
    Ok(())
}

fn check_map(path: &Path, info: &MapInfo, wanted: (usize, usize, u32)) -> Result<(), SteerError> {
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    let found = (sizes.0, sizes.1, info.max_entries());
    if found == wanted {
        return Ok(());
    }
    Err(SteerError::Incompatible {
        path: path.to_owned(),
        what: format!(
            "sizes of key and value and number of entries are {found:?}, expected {wanted:?}"
        ),
    })
}

/// Converts the error of opening a pin: [`SteerError::NotOurs`] if the process may not read and
/// write it.
fn denied(path: &Path, error: MapError) -> SteerError {
    if rustix::fs::access(
        path,
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
    )
    .is_ok()
    {
        return error.into();
    }
    SteerError::NotOurs(path.to_owned())
}
