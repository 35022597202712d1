//! Grants of groups to clients, made by changing single lines of a policy file.
//!
//! The change is made in the text, so comments and layout stay. It is accepted only if a YAML
//! parser reads the old content and the grant, and nothing else, from the new text.

mod edit;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::error::CertgenError;
use crate::name::check_common_name;
use crate::store::{self, DraftFile, FileAccess};
use crate::yaml;

/// Reasons for which a grant leaves a policy file unchanged.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyFileError {
    /// The file could not be read or written, or a name cannot be used.
    #[error(transparent)]
    File(#[from] CertgenError),
    /// The file is not YAML.
    #[error("{} is not YAML", .path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The parser's error, with its position in the file.
        source: Box<serde_saphyr::Error>,
    },
    /// A part of the file does not have the type that a policy requires.
    #[error("{what} in {} is not {expected}", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The part, such as `clients`.
        what: String,
        /// The type that is required.
        expected: &'static str,
    },
    /// The policy defines groups, but not this one; the gateway would refuse it.
    #[error("{} has no group {group:?}; its groups are {}", .path.display(), .known.join(", "))]
    UnknownGroup {
        /// The file.
        path: PathBuf,
        /// The group that was to be granted.
        group: String,
        /// The groups that the policy defines.
        known: Vec<String>,
    },
    /// The layout of the file does not allow a line to be added safely.
    #[error(
        "{} was not changed, because its layout cannot be edited safely; add this by \
         hand:\n{fragment}",
        .path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// The lines to add by hand, as [`fragment`] makes them.
        fragment: String,
    },
    /// Another process changed the file after it was read.
    #[error(
        "{} was changed by another program meanwhile; nothing was written, try again",
        .0.display()
    )]
    Changed(PathBuf),
}

/// Effect of a grant on one client's entry; see [`GrantEdit::additions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantAddition {
    /// The client is new to the policy.
    Client,
    /// The client has an entry, the group is new to it.
    Group,
    /// The client has the group already; nothing changes.
    Nothing,
}

/// A prepared grant, which [`GrantEdit::write`] writes to the policy file.
#[derive(Debug)]
#[must_use = "a grant changes nothing until it is written"]
pub struct GrantEdit {
    path: PathBuf,
    mode: u32,
    old: String,
    new: String,
    additions: Vec<GrantAddition>,
}

impl GrantEdit {
    /// Prepares the grant of a group to clients; the file is read, but not changed.
    ///
    /// # Errors
    ///
    /// A file that is not a policy, does not define the group, or cannot be added to safely.
    pub fn plan(path: &Path, clients: &[&str], group: &str) -> Result<Self, PolicyFileError> {
        for name in clients.iter().chain([&group]) {
            check_common_name(name).map_err(CertgenError::name(name))?;
        }
        // A link keeps pointing to the file; the file is what changes.
        let path = fs::canonicalize(path).map_err(CertgenError::io("read", path))?;
        let old = store::read_file(&path)?;
        let metadata = fs::metadata(&path).map_err(CertgenError::io("read", &path))?;
        let mut after = parse(&old).map_err(|source| PolicyFileError::Yaml {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let (mut new, mut additions) = (Some(old.clone()), Vec::with_capacity(clients.len()));
        for client in clients {
            let addition =
                grant(&mut after, client, group).map_err(|fault| fault.at(path.clone(), group))?;
            new = new.and_then(|text| match addition {
                GrantAddition::Nothing => Some(text),
                GrantAddition::Client => Some(edit::add_client(&text, client, group)),
                GrantAddition::Group => edit::add_group(&text, client, group),
            });
            additions.push(addition);
        }
        let new = new
            .filter(|new| parse(new).is_ok_and(|value| value == after))
            .ok_or_else(|| PolicyFileError::Layout {
                path: path.clone(),
                fragment: fragment(clients, group),
            })?;
        let mode = metadata.permissions().mode() & 0o7777;
        Ok(Self {
            path,
            mode,
            old,
            new,
            additions,
        })
    }

    /// The change for each client, in the order of the clients given to [`GrantEdit::plan`].
    pub fn additions(&self) -> &[GrantAddition] {
        &self.additions
    }

    /// Writes the file, which keeps its mode and owner; does nothing if nothing changes.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, or that has changed since it was read
    /// ([`PolicyFileError::Changed`]).
    pub fn write(self) -> Result<(), PolicyFileError> {
        if self.new == self.old {
            return Ok(());
        }
        let draft = DraftFile::new(&self.path, &self.new, FileAccess::Mode(self.mode))?;
        if store::read_file(&self.path)? != self.old {
            return Err(PolicyFileError::Changed(self.path));
        }
        Ok(draft.replace()?)
    }
}

/// Formats the `clients` section of a policy that grants the clients a group.
pub fn fragment(clients: &[&str], group: &str) -> String {
    let entries = clients
        .iter()
        .map(|client| format!("  {}\n", entry(client, group)));
    format!("clients:\n{}", entries.collect::<String>())
}

fn entry(client: &str, group: &str) -> String {
    format!(
        "{}: {{groups: [{}]}}",
        yaml::quoted(client),
        yaml::quoted(group)
    )
}

enum EditFault {
    Shape(String, &'static str),
    UnknownGroup(Vec<String>),
}

impl EditFault {
    fn at(self, path: PathBuf, group: &str) -> PolicyFileError {
        match self {
            Self::Shape(what, expected) => PolicyFileError::Shape {
                path,
                what,
                expected,
            },
            Self::UnknownGroup(known) => PolicyFileError::UnknownGroup {
                path,
                group: group.into(),
                known,
            },
        }
    }
}

fn parse(text: &str) -> Result<Value, serde_saphyr::Error> {
    serde_saphyr::from_str(text)
}

/// Adds the grant to a parsed policy; the result is what the edited text must parse to.
fn grant(policy: &mut Value, client: &str, group: &str) -> Result<GrantAddition, EditFault> {
    let root = mapping(policy, || "the top level".to_owned())?;
    if let Some(Value::Object(groups)) = root.get("groups")
        && !groups.contains_key(group)
    {
        return Err(EditFault::UnknownGroup(groups.keys().cloned().collect()));
    }
    let clients = root.entry("clients").or_insert(Value::Null);
    let clients = mapping(clients, || "`clients`".to_owned())?;
    let Some(entry) = clients.get_mut(client) else {
        clients.insert(client.to_owned(), json!({ "groups": [group] }));
        return Ok(GrantAddition::Client);
    };
    let groups = entry
        .get_mut("groups")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| {
            EditFault::Shape(
                format!("the client {client:?}"),
                "a mapping with a list of groups",
            )
        })?;
    if groups.iter().any(|known| known == group) {
        return Ok(GrantAddition::Nothing);
    }
    groups.push(group.into());
    Ok(GrantAddition::Group)
}

/// Returns a value as a mapping; a null value is replaced by an empty mapping first.
fn mapping(
    value: &mut Value,
    what: impl FnOnce() -> String,
) -> Result<&mut Map<String, Value>, EditFault> {
    if value.is_null() {
        *value = json!({});
    }
    value
        .as_object_mut()
        .ok_or_else(|| EditFault::Shape(what(), "a mapping"))
}

#[cfg(test)]
mod tests;
