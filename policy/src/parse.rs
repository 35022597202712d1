//! Parses a text into a policy, or reports the problems of the whole file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;

use super::client_name::ClientName;
use super::decide::GroupIndex;
use super::fields::number::{port, version};
use super::fields::text::{filled, text};
use super::fields::{self, MappingFields, quote};
use super::format::{DOCUMENT, TEST};
use super::problem::{ProblemList, TextPosition, did_you_mean};
use super::yaml::{self, YamlNode, YamlValue};
use super::yaml_chunks;
use super::{
    ClientPolicy, Decision, GatewayPolicy, GroupPolicy, Policy, PolicyChange, PolicyError, client,
    gateway, group,
};

/// Largest size of a policy's text in bytes: 64 MiB, four times the size for 100,000 groups and 100,000
/// clients.
pub const LARGEST_FILE: usize = 64 << 20;

impl Policy {
    /// Parses a policy and runs its tests; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] with the problems of the whole text, or with the failed tests.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let draft = PolicyDraft::read(file, text)?;
        let mut policy = Self {
            file: Arc::clone(&draft.file),
            gateway: Arc::clone(&draft.gateway),
            groups: imbl::HashMap::new(),
            clients: imbl::HashMap::new(),
            index: GroupIndex::default(),
            protocols: OrdMap::new(),
        };
        for group in &draft.groups {
            policy.put_group(group);
        }
        for client in &draft.clients {
            policy.put_client(client);
        }
        draft.tested(policy)
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
struct PolicyDraft {
    file: Arc<str>,
    gateway: Arc<GatewayPolicy>,
    groups: Vec<Arc<GroupPolicy>>,
    clients: Vec<Arc<ClientPolicy>>,
    tests: Vec<PolicyTest>,
}

impl PolicyDraft {
    fn read(file: &str, text: &str) -> Result<Self, PolicyError> {
        let file = Arc::from(file);
        let mut problems = ProblemList::default();
        let draft = if text.len() > LARGEST_FILE {
            let message = format!("the file has more than {LARGEST_FILE} bytes");
            problems.report(TextPosition::new(1, 1), message);
            None
        } else {
            let root = yaml_chunks::read(text).or_else(|| yaml::read(text, &mut problems));
            root.and_then(|root| read(&file, &root, &mut problems))
        };
        match draft {
            Some(draft) if problems.is_empty() => Ok(draft),
            Some(_) | None => Err(problems.into_error(&file)),
        }
    }

    /// Returns `policy`, which was made of this draft, if it passes the draft's tests.
    fn tested(&self, policy: Policy) -> Result<Policy, PolicyError> {
        let mut problems = ProblemList::default();
        problems.name_files(&self.gateway.tls);
        for test in &self.tests {
            test.check_tests(&policy, &mut problems);
        }
        if problems.is_empty() {
            Ok(policy)
        } else {
            Err(problems.into_error(&self.file))
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
        .map(|node| read_tests(node, problems))
        .unwrap_or_default();
    version?;
    Some(PolicyDraft {
        file: Arc::clone(file),
        gateway: Arc::new(gateway?),
        groups: groups?.read,
        clients: clients?,
        tests,
    })
}

/// Groups that were read without a problem, and the names of all groups.
#[derive(Debug, Default)]
struct ReadGroups<'n> {
    read: Vec<Arc<GroupPolicy>>,
    names: HashMap<&'n str, Arc<str>>,
}

impl<'n> ReadGroups<'n> {
    fn read(node: &'n YamlNode<'_>, problems: &mut ProblemList) -> Self {
        let entries = fields::entries(node, "groups", problems);
        let mut groups = Self {
            read: Vec::with_capacity(entries.len()),
            names: HashMap::with_capacity(entries.len()),
        };
        for (name, at, node) in entries {
            if let Err(error) = ClientName::new(name) {
                problems.report(
                    at,
                    format!("{} is not a group's name: {error}", quote(name)),
                );
            }
            let group = group::read(name, at, node, problems).map(Arc::new);
            let shared = group
                .as_ref()
                .map_or_else(|| Arc::from(name), |group| Arc::clone(&group.name));
            groups.names.insert(name, shared);
            groups.read.extend(group);
        }
        groups.refuse_shared_names(node, problems);
        groups
    }

    /// Reports groups whose keepalive is longer than that of the gateway (`most`).
    fn refuse_rare_keepalive(
        &self,
        most: Duration,
        node: &YamlNode<'_>,
        problems: &mut ProblemList,
    ) {
        for group in &self.read {
            if group.timeouts.keepalive.is_some_and(|own| own > most) {
                report_at(node, (group, "timeouts", 0), problems, || {
                    format!(
                        "`keepalive` of this group is longer than the gateway's ({most:?}), which no group may exceed"
                    )
                });
            }
        }
    }

    /// Reports names and ports that lead to two groups.
    fn refuse_shared_names(&self, node: &YamlNode<'_>, problems: &mut ProblemList) {
        let mut names = HashMap::with_capacity(self.read.len());
        let mut ports = HashMap::new();
        for group in &self.read {
            for (n, name) in group.sni.iter().enumerate() {
                if let Some(first) = names.insert(name, group)
                    && first.name != group.name
                {
                    let which = || twice("name", &name.to_string(), first);
                    report_at(node, (group, "sni", n), problems, which);
                }
            }
            for (n, port) in group.ports.iter().enumerate() {
                if let Some(first) = ports.insert(port, group) {
                    let which = || twice("port", &port.to_string(), first);
                    report_at(node, (group, "ports", n), problems, which);
                }
            }
        }
    }
}

/// Reports a problem with the `n`th item of a group's list. To find its position takes a search
/// through all groups, which is made only while problems are still reported.
fn report_at(
    groups: &YamlNode<'_>,
    (group, list, n): (&GroupPolicy, &str, usize),
    problems: &mut ProblemList,
    message: impl FnOnce() -> String,
) {
    if problems.is_full() {
        problems.skip(1);
    } else {
        problems.report(position(groups, group, list, n), message());
    }
}

fn twice(what: &str, which: &str, first: &GroupPolicy) -> String {
    let (group, line) = (&first.name, first.line.number());
    format!(
        "{what} `{which}` already leads to group `{group}` (line {line}); expected it in one group \
         only"
    )
}

/// Returns the position of the `n`th item of a group's list, or else of the group's name.
fn position(groups: &YamlNode<'_>, group: &GroupPolicy, list: &str, n: usize) -> TextPosition {
    let entry = |node: &YamlNode<'_>, name: &str| {
        let YamlValue::Map(map) = &node.value else {
            return None;
        };
        let has_name =
            |key: &YamlNode<'_>| matches!(&key.value, YamlValue::Text(text) if text == name);
        map.iter().position(|(key, _)| has_name(key))
    };
    let YamlValue::Map(map) = &groups.value else {
        return groups.at;
    };
    let Some(found) = entry(groups, &group.name) else {
        return groups.at;
    };
    let (key, value) = &map[found];
    let YamlValue::Map(fields) = &value.value else {
        return key.at;
    };
    let Some(found) = entry(value, list) else {
        return key.at;
    };
    if let YamlValue::List(items) = &fields[found].1.value {
        items.get(n).map_or(key.at, |item| item.at)
    } else {
        key.at
    }
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

/// One test that the policy's author has written into it: an expected decision.
#[derive(Debug)]
struct PolicyTest {
    at: TextPosition,
    client: ClientName,
    sni: Option<String>,
    port: Option<u16>,
    expected: ExpectedDecision,
}

#[derive(Debug)]
enum ExpectedDecision {
    Allow { group: Option<String> },
    Deny,
}

fn read_tests(node: &YamlNode<'_>, problems: &mut ProblemList) -> Vec<PolicyTest> {
    let nodes: &[YamlNode<'_>] = match &node.value {
        YamlValue::List(nodes) => nodes,
        YamlValue::Nothing => &[],
        YamlValue::Flag(_) | YamlValue::Number(_) | YamlValue::Text(_) | YamlValue::Map(_) => {
            let found = fields::describe(node);
            problems.report(
                node.at,
                format!("{found} is not a list; expected a list of tests"),
            );
            return Vec::new();
        }
    };
    nodes
        .iter()
        .filter_map(|node| read_test(node, problems))
        .collect()
}

fn read_test(node: &YamlNode<'_>, problems: &mut ProblemList) -> Option<PolicyTest> {
    let fields = MappingFields::of(node, &TEST, problems)?;
    let client = fields.need("client", problems).and_then(|node| {
        let name = text(node, problems)?;
        let client = ClientName::new(name);
        if let Err(error) = &client {
            problems.report(
                node.at,
                format!("{} is not a client's name: {error}", quote(name)),
            );
        }
        client.ok()
    });
    let owned = |node: &YamlNode<'_>, problems: &mut ProblemList| {
        filled(node, problems).map(|text| Some(text.to_owned()))
    };
    let sni = fields.or("sni", None, problems, owned);
    let port = fields.or("port", None, problems, |node, problems| {
        port(node, problems).map(Some)
    });
    let group = fields.or("group", None, problems, owned);
    let allow = fields
        .need("expect", problems)
        .and_then(|node| fields::word(node, &[("allow", true), ("deny", false)], problems))?;
    let expected = match (allow, fields.get("group")) {
        (true, _) => ExpectedDecision::Allow { group },
        (false, None) => ExpectedDecision::Deny,
        (false, Some(node)) => {
            problems.report(node.at, "`group` is possible with `expect: allow` only");
            return None;
        }
    };
    Some(PolicyTest {
        at: node.at,
        client: client?,
        sni,
        port,
        expected,
    })
}

impl PolicyTest {
    /// Reports a problem if the policy fails this test.
    fn check_tests(&self, policy: &Policy, problems: &mut ProblemList) {
        let port = self.port.unwrap_or(policy.gateway.listen[0].port());
        let sni = self.sni.as_deref();
        let decision = policy.decide(&self.client, sni, port);
        let (expected, got) = match (&self.expected, &decision) {
            (
                ExpectedDecision::Allow {
                    group: Some(wanted),
                },
                Decision::Allow { group, .. },
            ) if **wanted != *group.name => (
                format!("group {}", quote(wanted)),
                format!("group `{}`", group.name),
            ),
            (ExpectedDecision::Allow { .. }, Decision::Allow { .. })
            | (ExpectedDecision::Deny, Decision::Deny { .. }) => return,
            (ExpectedDecision::Allow { .. }, Decision::Deny { .. }) => {
                ("allow".into(), "deny".into())
            }
            (ExpectedDecision::Deny, Decision::Allow { .. }) => ("deny".into(), "allow".into()),
        };
        let rule = policy.rule(&self.client, sni, port);
        problems.report(
            self.at,
            format!("this test fails: expected {expected}, but the policy says {got}: {rule}"),
        );
    }
}
