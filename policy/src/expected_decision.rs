//! `tests:` of the policy: what must be true of it.

use std::sync::Arc;

use crate::client_name::ClientName;
use crate::decide::Decision;
use crate::fields::number::port;
use crate::fields::text::{filled, text};
use crate::fields::{self, MappingFields, quote};
use crate::format::TEST;
use crate::policy::Policy;
use crate::problem::ProblemList;
use policy_yaml::{TextPosition, YamlNode, YamlValue};

/// One test that the policy's author has written into it: an expected decision.
#[derive(Debug)]
pub(crate) struct PolicyTest {
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

/// Reads `tests:`. What is wrong with one is reported, and the others are read.
pub(crate) fn read(node: &YamlNode<'_>, problems: &mut ProblemList) -> Vec<PolicyTest> {
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
    /// Returns the client and the group whose grant this test, which passes, expects; `None` if it
    /// expects that a client is refused.
    pub(crate) fn tested_grant(&self, policy: &Policy) -> Option<(&str, Arc<str>)> {
        match self.decision(policy) {
            Decision::Allow { group, .. } => Some((self.client.as_str(), Arc::clone(&group.name))),
            Decision::Deny { .. } => None,
        }
    }

    fn decision(&self, policy: &Policy) -> Decision {
        policy.decide(&self.client, self.sni.as_deref(), self.port_of(policy))
    }

    /// Returns the port of the test: without one, the first that the gateway listens on.
    fn port_of(&self, policy: &Policy) -> u16 {
        self.port.unwrap_or(policy.gateway.listen[0].port())
    }

    /// Reports a problem if the policy fails this test.
    pub(crate) fn check(&self, policy: &Policy, problems: &mut ProblemList) {
        let (sni, port) = (self.sni.as_deref(), self.port_of(policy));
        let decision = self.decision(policy);
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
