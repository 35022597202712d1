//! Every small policy, every client and every destination: nobody gets what was not granted.

use std::fmt::Write as _;

use super::*;
use crate::test_support::with;

/// The ways by which a group may be reached: names and ports.
const WAYS: [(&[&str], &[u16]); 5] = [
    (&[], &[]),
    (&["a.test"], &[]),
    (&["*.test"], &[]),
    (&["a.test", "*.a.test"], &[]),
    (&["b.test"], &[1]),
];
const GROUPS: [&str; 2] = ["one", "two"];
const CLIENTS: [&str; 3] = ["alice", "bob", "nobody"];
const DESTINATIONS: [Option<&str>; 9] = [
    None,
    Some(""),
    Some("one"),
    Some("test"),
    Some("a.test"),
    Some("A.TEST."),
    Some("b.test"),
    Some("x.a.test"),
    Some(".a.test"),
];

/// How well a way fits a destination, if it does: a port or an exact name best, then the longest
/// wildcard.
fn fit(group: usize, way: usize, sni: Option<&str>, port: u16) -> Option<usize> {
    let (names, ports) = WAYS[way];
    let Some(sni) = sni else {
        return ports.contains(&port).then_some(usize::MAX);
    };
    let sni = sni.to_lowercase();
    let sni = sni.strip_suffix('.').unwrap_or(&sni);
    // Without names a group has its own.
    let own = [GROUPS[group]];
    let names = if names.is_empty() { &own } else { names };
    let fits = names
        .iter()
        .filter_map(|name| match name.strip_prefix('*') {
            None => (*name == sni).then_some(usize::MAX),
            Some(suffix) => {
                let before = sni.strip_suffix(suffix)?;
                (!before.is_empty()).then_some(suffix.len())
            }
        });
    fits.max()
}

/// The group that is expected, by the documents' words and in no other way.
fn expected(
    ways: [usize; 2],
    grants: usize,
    client: usize,
    sni: Option<&str>,
    port: u16,
) -> Option<usize> {
    let fits = [0, 1].map(|group| fit(group, ways[group], sni, port));
    let group = usize::from(fits[1] > fits[0]);
    fits[group]?;
    let is_granted = client < 2 && grants >> (client * 2 + group) & 1 == 1;
    is_granted.then_some(group)
}

/// The policy's text, unless it says one thing twice, grants nothing at all or leaves a group to
/// nobody.
fn text(ways: [usize; 2], grants: usize) -> String {
    let mut text = String::from("groups:\n");
    for (group, way) in GROUPS.iter().zip(ways) {
        let (names, ports) = WAYS[way];
        let names: Vec<_> = names.iter().map(|name| format!("'{name}'")).collect();
        let sni = if names.is_empty() {
            String::new()
        } else {
            format!("sni: [{}], ", names.join(", "))
        };
        let ports = if ports.is_empty() {
            String::new()
        } else {
            format!("ports: {ports:?}, ")
        };
        writeln!(text, "  {group}: {{{sni}{ports}upstreams: ['10.0.0.1:1']}}").unwrap();
    }
    text += "clients:\n";
    for (client, name) in CLIENTS[..2].iter().enumerate() {
        let granted = (0..2).filter(|group| grants >> (client * 2 + group) & 1 == 1);
        let granted: Vec<_> = granted.map(|group| GROUPS[group]).collect();
        writeln!(text, "  {name}: {{groups: [{}]}}", granted.join(", ")).unwrap();
    }
    with(&text)
}

/// Asks for every client and every destination. Returns how many questions there were.
fn ask(policy: &Policy, ways: [usize; 2], grants: usize) -> usize {
    let clients = CLIENTS.iter().enumerate();
    let questions = clients.flat_map(|(client, name)| {
        let destinations = DESTINATIONS.iter().flat_map(|sni| [(*sni, 1), (*sni, 2)]);
        destinations.map(move |(sni, port)| (client, name, sni, port))
    });
    let mut asked = 0;
    for (client, name, sni, port) in questions {
        let name = ClientName::new(name).unwrap();
        let reached = match policy.decide(&name, sni, port) {
            Decision::Allow { group, client } if client.name == name => {
                Some(group.name.to_string())
            }
            Decision::Allow { client, .. } => panic!("{name} as {}", client.name),
            Decision::Deny { .. } => None,
        };
        let ought = expected(ways, grants, client, sni, port).map(|group| GROUPS[group]);
        let case = format!("{ways:?} {grants:b} {name} {sni:?} {port}");
        assert_eq!(reached.as_deref(), ought, "{case}");
        asked += 1;
    }
    asked
}

#[test]
fn in_every_small_policy_a_client_reaches_what_it_is_granted_and_nothing_else() {
    let mut asked = 0;
    for number in 0..WAYS.len() * WAYS.len() * 16 {
        let (ways, grants) = (number / 16, number % 16);
        let ways = [ways % WAYS.len(), ways / WAYS.len()];
        // One name for two groups is refused, and so is a client without groups.
        if let Ok(policy) = Policy::parse("p.yaml", &text(ways, grants)) {
            asked += ask(&policy, ways, grants);
        }
    }
    assert!(asked > 8000, "{asked}");
}
