//! Path of the admin socket for a command, and the next step if nobody answers there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use admin::AskError;
use clap::Args;
use nix::unistd::{Gid, Group};

use crate::load::{base, read_policy_only};

/// File of the policy that is looked at if none is named.
const POLICY: &str = "policy.yaml";
/// Path of the admin socket if neither an option nor a policy names one.
const SOCKET: &str = "/run/portcullis/admin.sock";

/// Which admin socket is meant.
#[derive(Debug, Args)]
pub(super) struct SocketArguments {
    /// Admin socket of the gateway [default: that of the policy, else
    /// /run/portcullis/admin.sock].
    #[arg(long, env = "PORTCULLIS_SOCKET")]
    socket: Option<PathBuf>,
    /// File of the policy, which names the admin socket [default: policy.yaml, if it exists].
    #[arg(long)]
    policy: Option<PathBuf>,
}

impl SocketArguments {
    /// Returns the path of the admin socket.
    ///
    /// # Errors
    ///
    /// The policy that names it cannot be read, or the named policy has no admin socket.
    pub(super) fn path(&self) -> Result<PathBuf, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if let Some(policy) = &self.policy {
            return socket_of(policy)?.ok_or_else(|| {
                format!(
                    "{} has no `gateway.admin.socket`; add it and restart the gateway, or name the \
                     socket with --socket",
                    policy.display()
                )
            });
        }
        let policy = Path::new(POLICY);
        let found = if policy.exists() {
            socket_of(policy)?
        } else {
            None
        };
        Ok(found.unwrap_or_else(|| PathBuf::from(SOCKET)))
    }
}

fn socket_of(policy: &Path) -> Result<Option<PathBuf>, String> {
    let loaded = read_policy_only(policy);
    let loaded = loaded.map_err(|error| {
        format!("{error}\nname the admin socket with --socket, to use no policy's")
    })?;
    let socket = loaded.gateway().admin.as_ref();
    Ok(socket.map(|socket| base(policy).join(socket)))
}

/// Returns the message of an error, with what may be done about it.
pub(super) fn next_step(error: &AskError) -> String {
    let AskError::Unreachable { path, source } = error else {
        return error.to_string();
    };
    let kind = source.kind();
    let step = if kind == ErrorKind::NotFound {
        "there is no socket; name the gateway's with --socket, or its policy with --policy"
            .to_owned()
    } else if kind == ErrorKind::ConnectionRefused {
        "no gateway runs there; start one with `portcullis run`".to_owned()
    } else if kind == ErrorKind::PermissionDenied {
        match group_of(path) {
            Some(group) => format!("only root, the gateway's user and the group `{group}` may"),
            None => "run this as root or as the gateway's user".to_owned(),
        }
    } else {
        return error.to_string();
    };
    format!("{error}\n{step}")
}

/// Returns the group that may use a socket; `None` if its directory keeps that from this user too.
fn group_of(socket: &Path) -> Option<String> {
    let gid = fs::metadata(socket).ok()?.gid();
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    Some(group.map_or_else(|| gid.to_string(), |group| group.name))
}
