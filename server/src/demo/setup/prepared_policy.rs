//! The policy of the demo, and the listeners of its upstreams.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use crate::demo::arguments::DemoArguments;
use crate::demo::error::DemoError;
use policy::Policy;

/// Policy of the demo if there is no other.
const BUILT_IN: &str = include_str!("../../../../policy.yaml");

/// Prepares the policy file and the listeners of its upstreams.
///
/// The file is a copy in the demo's directory if ports or paths of the policy have to be changed,
/// or if it is the built-in one.
pub(super) async fn prepare(
    arguments: &DemoArguments,
) -> Result<(PathBuf, Vec<TcpListener>), DemoError> {
    let file = arguments
        .policy
        .clone()
        .unwrap_or_else(|| PathBuf::from("policy.yaml"));
    let (text, exists) = match std::fs::read_to_string(&file) {
        Ok(text) => (text, true),
        Err(error) if error.kind() == io::ErrorKind::NotFound && arguments.policy.is_none() => {
            (BUILT_IN.to_owned(), false)
        }
        Err(source) => return Err(DemoError::File { path: file, source }),
    };
    let policy =
        Policy::parse(&file.display().to_string(), &text).map_err(crate::load::LoadError::from)?;
    let mut changed = text;
    let mut listeners = Vec::new();
    let addresses: BTreeSet<SocketAddr> = policy
        .groups()
        .flat_map(|group| group.upstreams.iter().map(|upstream| upstream.address))
        .collect();
    for address in addresses {
        let wanted = if arguments.free_ports {
            free(address)
        } else {
            address
        };
        let taken = |source| DemoError::Upstream {
            address: wanted,
            source,
        };
        let listener = TcpListener::bind(wanted).await.map_err(taken)?;
        if arguments.free_ports {
            let bound = listener.local_addr()?;
            changed = changed.replace(&address.to_string(), &bound.to_string());
        }
        listeners.push(listener);
    }
    if arguments.free_ports {
        for address in &policy.gateway().listen {
            changed = changed.replace(&address.to_string(), &free(*address).to_string());
        }
    }
    let tls = &policy.gateway().tls;
    let in_place = tls.certificate.parent() == Some(&arguments.dir);
    if exists && in_place && !arguments.free_ports {
        return Ok((file, listeners));
    }
    let own = tls.certificate.parent().unwrap_or(Path::new("")).join("");
    let copy = arguments.dir.join("policy.yaml");
    let of = |path: &Path| {
        let path = path.to_owned();
        |source| DemoError::File { path, source }
    };
    std::fs::create_dir_all(&arguments.dir).map_err(of(&arguments.dir))?;
    std::fs::write(&copy, changed.replace(&*own.to_string_lossy(), "")).map_err(of(&copy))?;
    Ok((copy, listeners))
}

fn free(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}
