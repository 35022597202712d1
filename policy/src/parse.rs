//! Parses a text into a policy, or reports the problems of the whole file.

use std::sync::Arc;

use imbl::OrdMap;

use crate::change::PolicyChange;
use crate::client::{self, ClientPolicy};
use crate::expected_decision::{self, PolicyTest};
use crate::fields::number::version;
use crate::fields::text::text;
use crate::fields::{self, MappingFields, quote};
use crate::format::DOCUMENT;
use crate::gateway::{self, GatewayPolicy};
use crate::group::GroupPolicy;
use crate::group_index::GroupIndex;
use crate::policy::Policy;
use crate::positions::PolicyPositions;
use crate::problem::{PolicyError, ProblemList, did_you_mean};
use crate::read_groups::ReadGroups;
use policy_yaml::{TextPosition, YamlNode, YamlRefusal};

/// Largest size of a policy's text in bytes: 64 MiB, four times the size for 100,000 groups and
/// 100,000 clients.
pub const LARGEST_FILE: usize = 64 << 20;

impl Policy {
    /// Parses a policy and runs its tests; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] with the problems of the whole text, or with the failed tests.
    ///
    /// # Examples
    ///
    /// ```
    /// use policy::Policy;
    ///
    /// let error = Policy::parse("policy.yaml", "version: 2\n").expect_err("not a version");
    /// let first = &error.problems()[0];
    /// assert_eq!((first.line, first.column), (1, 1));
    /// assert_eq!(first.message, "`gateway` is missing in the policy");
    /// assert!(error.to_string().starts_with("policy.yaml:1:1: `gateway` is missing"));
    /// ```
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let draft = PolicyDraft::read(file, text)?;
        draft.tested(draft.policy())
    }

    /// Parses the policy that is to follow this one, and returns the changes that lead to it as
    /// well.
    ///
    /// The result is the same as that of [`Policy::parse`], [`Policy::changes`] and
    /// [`Policy::apply`], without the tables for an independent policy: to make them is most of the
    /// work if little has changed.
    ///
    /// # Errors
    ///
    /// The same as those of [`Policy::parse`].
    pub fn parse_next(
        &self,
        file: &str,
        text: &str,
    ) -> Result<(Self, Vec<PolicyChange>), PolicyError> {
        let draft = PolicyDraft::read(file, text)?;
        let changes = self.changes_to(&draft.gateway, &draft.groups, &draft.clients);
        Ok((draft.tested(self.apply(&changes))?, changes))
    }
}

/// Contents of a policy's file, valid except that its own tests have not yet run: they need a whole
/// policy.
#[derive(Debug)]
pub(super) struct PolicyDraft {
    file: Arc<str>,
    gateway: Arc<GatewayPolicy>,
    groups: Vec<Arc<GroupPolicy>>,
    clients: Vec<Arc<ClientPolicy>>,
    tests: Vec<PolicyTest>,
    positions: PolicyPositions,
}

impl PolicyDraft {
    pub(super) fn read(file: &str, text: &str) -> Result<Self, PolicyError> {
        let file = Arc::from(file);
        let mut problems = ProblemList::default();
        let draft = if text.len() > LARGEST_FILE {
            let message = format!("the file has more than {LARGEST_FILE} bytes");
            problems.report(TextPosition::new(1, 1), message);
            None
        } else {
            let root = root(text, &mut problems);
            root.and_then(|root| read(&file, &root, &mut problems))
        };
        match draft {
            Some(draft) if problems.is_empty() => Ok(draft),
            Some(_) | None => Err(problems.into_error(&file)),
        }
    }

    /// Returns the policy with these contents.
    pub(super) fn policy(&self) -> Policy {
        let mut policy = Policy {
            file: Arc::clone(&self.file),
            gateway: Arc::clone(&self.gateway),
            groups: imbl::HashMap::new(),
            clients: imbl::HashMap::new(),
            index: GroupIndex::default(),
            protocols: OrdMap::new(),
            positions: self.positions,
            warnings: Arc::default(),
        };
        for group in &self.groups {
            policy.put_group(group);
        }
        for client in &self.clients {
            policy.put_client(client);
        }
        policy
    }

    /// Returns `policy`, which was made of this draft, if it passes the draft's tests. It has its
    /// warnings then.
    pub(super) fn tested(&self, policy: Policy) -> Result<Policy, PolicyError> {
        let mut problems = ProblemList::default();
        problems.name_files(&self.gateway.tls);
        for test in &self.tests {
            test.check(&policy, &mut problems);
        }
        if problems.is_empty() {
            Ok(policy.warned(self.positions, &self.clients, &self.tests))
        } else {
            Err(problems.into_error(&self.file))
        }
    }
}

/// Reads a text as YAML. `None` means that a problem was reported.
fn root<'t>(text: &'t str, problems: &mut ProblemList) -> Option<YamlNode<'t>> {
    match policy_yaml::read(text) {
        Ok(Some(root)) => Some(root),
        Ok(None) => {
            let message = "the file is empty; expected `version: 1` first";
            problems.report(TextPosition::new(1, 1), message);
            None
        }
        Err(YamlRefusal { at, message }) => {
            problems.report(at, message);
            None
        }
    }
}

fn read(file: &Arc<str>, root: &YamlNode<'_>, problems: &mut ProblemList) -> Option<PolicyDraft> {
    let fields = MappingFields::of(root, &DOCUMENT, problems)?;
    let version = fields
        .need("version", problems)
        .and_then(|node| version(node, problems));
    let gateway = fields
        .need("gateway", problems)
        .and_then(|node| gateway::read(node, problems));
    let groups = fields.need("groups", problems).map(|node| {
        let groups = ReadGroups::read(node, problems);
        if let Some(gateway) = &gateway {
            groups.refuse_rare_keepalive(gateway.timeouts.keepalive, node, problems);
        }
        groups
    });
    let clients = fields.need("clients", problems).zip(groups.as_ref());
    let clients = clients.map(|(node, groups)| read_clients(node, groups, problems));
    let tests = fields
        .get("tests")
        .map(|node| expected_decision::read(node, problems))
        .unwrap_or_default();
    version?;
    Some(PolicyDraft {
        file: Arc::clone(file),
        gateway: Arc::new(gateway?),
        groups: groups?.read,
        clients: clients?,
        tests,
        positions: PolicyPositions::find(root),
    })
}

fn read_clients(
    node: &YamlNode<'_>,
    groups: &ReadGroups<'_>,
    problems: &mut ProblemList,
) -> Vec<Arc<ClientPolicy>> {
    let mut clients = Vec::new();
    for (name, at, node) in fields::entries(node, "clients", problems) {
        let client = client::read((name, at), node, problems, |node, problems| {
            let name = text(node, problems)?;
            let group = groups.names.get(name).cloned();
            if group.is_none() {
                let known = groups.names.keys().copied();
                let full = problems.is_full();
                let hint = if full {
                    String::new()
                } else {
                    did_you_mean(name, known)
                };
                problems.report(node.at, format!("there is no group {}{hint}", quote(name)));
            }
            group
        });
        clients.extend(client.map(Arc::new));
    }
    clients
}
