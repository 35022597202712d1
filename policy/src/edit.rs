//! Adds grants to the text of a policy.
//!
//! The text is changed in single places, so comments and layout stay. The result is accepted only
//! if the policy's parser reads from it the old policy with the grants, and nothing else.

use std::sync::Arc;

use thiserror::Error;

use crate::change::PolicyChange;
use crate::client::{self, ClientPolicy};
use crate::client_name::ClientName;
use crate::diff::{PolicyDifference, difference};
use crate::fields::quote;
use crate::parse::PolicyDraft;
use crate::policy::Policy;
use crate::problem::{PolicyError, ProblemList, did_you_mean};
use policy_yaml::grant_layout::{self, NewGrant};
use policy_yaml::{TextPosition, YamlNode, YamlValue};

/// Largest number of groups that an error lists.
const MOST_LISTED: usize = 8;

/// Reasons for which a policy's text is not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// The text is not a valid policy, apart from its own tests.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy has no group with this name.
    #[error("{file}: there is no group {}{hint}", quote(group))]
    UnknownGroup {
        /// Name of the policy's file.
        file: String,
        /// Name of the group that was to be granted.
        group: String,
        /// Similar or all names of the policy's groups, as the end of the message.
        hint: String,
    },
    /// The layout of the text does not allow the grants to be added safely.
    #[error(
        "{file} was not changed: its layout is not one that can be added to safely; \
         add this by hand:\n{fragment}"
    )]
    Layout {
        /// Name of the policy's file.
        file: String,
        /// Lines to add by hand: the clients, each with the groups that are new to it.
        fragment: String,
    },
    /// The policy with the grants fails its own tests.
    #[error("{file} was not changed: with this grant the policy fails its own tests:\n{told}")]
    Tests {
        /// Name of the policy's file.
        file: String,
        /// The failed tests, each with its position in the old text.
        told: PolicyError,
    },
}

/// Text of a policy with grants added; made by [`grant`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a grant changes nothing until its text is written"]
pub struct PolicyEdit {
    text: String,
    difference: PolicyDifference,
}

impl PolicyEdit {
    /// Returns the text; it is the old one if nothing changes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the difference from the old policy to the new one; empty if nothing changes.
    pub fn difference(&self) -> &PolicyDifference {
        &self.difference
    }
}

/// Grants all of the groups to each of the clients in the text of a policy; `file` is its name in
/// messages. A client that the policy does not know is added with the default limits.
///
/// The old policy may fail its own tests; the new one may not.
///
/// # Errors
///
/// An [`EditError`] if the text is not a policy, does not define a group, has a layout that cannot
/// be added to, or has tests that the new policy fails.
pub fn grant(
    file: &str,
    text: &str,
    clients: &[ClientName],
    groups: &[&str],
) -> Result<PolicyEdit, EditError> {
    let (base, draft) = read(file, text)?;
    let old = draft.policy();
    let groups = known_groups(&old, groups)?;
    let mut changes = Vec::new();
    let mut grants: Vec<NewGrant<'_>> = Vec::new();
    for client in clients {
        let known = old.client(client.as_str());
        let is_new = |group: &&Arc<str>| !known.is_some_and(|known| known.is_granted(group));
        let missing: Vec<&Arc<str>> = groups.iter().filter(is_new).collect();
        let is_repeated = grants.iter().any(|grant| grant.client == client.as_str());
        if missing.is_empty() || is_repeated {
            continue;
        }
        let granted =
            granted(client, known, &missing).map_err(|told| told.into_error(old.file()))?;
        changes.push(PolicyChange::PutClient(Arc::new(granted)));
        grants.push(NewGrant {
            client: client.as_str(),
            groups: missing.into_iter().map(|group| &**group).collect(),
            is_known: known.is_some(),
        });
    }
    let meant = old.apply(&changes);
    let difference = difference(&old, &meant);
    if grants.is_empty() {
        let text = text.to_owned();
        return Ok(PolicyEdit { text, difference });
    }
    let (text, new) = grant_layout::edited(&base, &grants)
        .and_then(|text| {
            let new = PolicyDraft::read(file, &text).ok()?.policy();
            (new == meant).then_some((text, new))
        })
        .ok_or_else(|| EditError::Layout {
            file: file.to_owned(),
            fragment: grant_layout::fragment(&grants),
        })?;
    // The tests of the old text have the positions that the user sees in the file.
    draft.tested(new).map_err(|told| EditError::Tests {
        file: file.to_owned(),
        told,
    })?;
    Ok(PolicyEdit { text, difference })
}

/// Reads the policy that grants are added to, and the text that they are added to: a text without
/// `clients` gets an empty section first.
fn read(file: &str, text: &str) -> Result<(String, PolicyDraft), PolicyError> {
    let error = match PolicyDraft::read(file, text) {
        Ok(draft) => return Ok((text.to_owned(), draft)),
        Err(error) => error,
    };
    let completed = grant_layout::with_clients(text);
    match PolicyDraft::read(file, &completed) {
        Ok(draft) => Ok((completed, draft)),
        Err(_) => Err(error),
    }
}

/// Returns the groups with these names, each once, in the order of the names.
fn known_groups(policy: &Policy, names: &[&str]) -> Result<Vec<Arc<str>>, EditError> {
    let mut known: Vec<Arc<str>> = Vec::with_capacity(names.len());
    for &name in names {
        let Some(group) = policy.group(name) else {
            return Err(EditError::UnknownGroup {
                file: policy.file().to_string(),
                group: name.to_owned(),
                hint: hint(policy, name),
            });
        };
        if !known.contains(&group.name) {
            known.push(Arc::clone(&group.name));
        }
    }
    Ok(known)
}

fn hint(policy: &Policy, name: &str) -> String {
    let mut names: Vec<&str> = policy.groups().map(|group| &*group.name).collect();
    let similar = did_you_mean(name, names.iter().copied());
    if !similar.is_empty() {
        return similar;
    }
    names.sort_unstable();
    let listed: Vec<String> = names
        .iter()
        .take(MOST_LISTED)
        .map(|name| quote(name))
        .collect();
    let listed = listed.join(", ");
    match names.len().saturating_sub(MOST_LISTED) {
        0 if names.is_empty() => "; the policy has no groups".to_owned(),
        0 => format!("; the policy has {listed}"),
        more => format!("; the policy has {listed} and {more} more"),
    }
}

/// Returns the settings of a client with further groups; a new client has the defaults of the
/// format.
fn granted(
    name: &ClientName,
    known: Option<&Arc<ClientPolicy>>,
    groups: &[&Arc<str>],
) -> Result<ClientPolicy, ProblemList> {
    if let Some(known) = known {
        let mut client = ClientPolicy::clone(known);
        client.groups.extend(groups.iter().copied().cloned());
        client.groups.sort_unstable();
        return Ok(client);
    }
    let at = TextPosition::default();
    let text = |text| YamlNode {
        at,
        value: YamlValue::Text(text),
    };
    let list = groups.iter().map(|group| text(group.as_ref().into()));
    let list = YamlNode {
        at,
        value: YamlValue::List(list.collect()),
    };
    let entry = YamlNode {
        at,
        value: YamlValue::Map(vec![(text("groups".into()), list)]),
    };
    let mut problems = ProblemList::default();
    let group = |node: &YamlNode<'_>, _: &mut ProblemList| node.scalar().map(Arc::from);
    client::read((name.as_str(), at), &entry, &mut problems, group).ok_or(problems)
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
