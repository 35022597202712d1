//! Every field of the policy becomes the one of the balancer that it is meant to be.

use std::num::NonZeroU32;
use std::time::Duration;

use lb::Limit;
use policy::Policy;

use super::*;

const POLICY: &str = r#"
version: 1
gateway:
  listen: ["127.0.0.1:8443"]
  tls: {certificate: a, key: b, client_ca: c}
  timeouts:
    {connect: 7s, idle: 8m, half_closed: 21s, stall: 22s, keepalive: 23s, lifetime: 9h, lifetime_jitter: 30%}
groups:
  usual: {upstreams: ["192.0.2.1:1"]}
  own:
    sni: ["*.example.test", db.example.test]
    upstreams:
      - "192.0.2.1:1"
      - {address: "192.0.2.2:2", weight: 3, backup: true, state: drain}
      - {address: "192.0.2.3:3", state: maint}
    health:
      {check: {send: ask, expect: told}, interval: 11s, timeout: 12s, rise: 13, fall: 14, jitter: 15%, on_down: cut}
    proxy_protocol: v2
    max_connections: 16
    when_all_down: try_all
    timeouts: {connect: 17s, idle: 18m, half_closed: 24s, stall: unlimited, keepalive: 20s, lifetime: unlimited}
    tries: 2
  off: {upstreams: ["192.0.2.1:1"], health: {check: off}}
  tls: {sni: ["*.a", b.c], upstreams: ["192.0.2.1:1"], health: {check: tls}}
  named: {upstreams: ["192.0.2.1:1"], health: {check: tls, sni: d.e}}
clients:
  plain: {groups: [own]}
  bounded: {groups: [own], max_connections: 19, when_full: {wait: 21s}, rate: 20/m}
"#;

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn configured(name: &str) -> GroupConfig {
    let policy = Policy::parse("p.yaml", POLICY).unwrap();
    let mut groups = policy.groups();
    let found = groups.find(|group| &*group.name == name).unwrap();
    let config = group(found, policy.gateway());
    assert_eq!(&*config.name, name);
    config
}

#[test]
fn upstreams_are_what_the_policy_says_of_each() {
    let upstream = |address: &str, weight, backup, state| UpstreamConfig {
        address: address.parse().unwrap(),
        weight: number(weight),
        backup,
        state,
    };
    assert_eq!(
        configured("own").upstreams,
        [
            upstream("192.0.2.1:1", 1, false, UpstreamState::Ready),
            upstream("192.0.2.2:2", 3, true, UpstreamState::Drain),
            upstream("192.0.2.3:3", 1, false, UpstreamState::Maint),
        ]
    );
}

#[test]
fn probes_are_what_the_policy_says_of_them() {
    let own = configured("own").health;
    let (send, expect) = (b"ask".to_vec(), b"told".to_vec());
    assert_eq!(own.check, ProbeKind::SendExpect { send, expect });
    assert_eq!(own.preface, proxy_header::local());
    let seconds = Duration::from_secs;
    assert_eq!((own.interval, own.timeout), (seconds(11), seconds(12)));
    assert_eq!((own.rise, own.fall), (number(13), number(14)));
    assert!((own.jitter - 0.15).abs() < 1e-9);

    assert_eq!(own.on_down, OnDown::Cut);

    let usual = configured("usual").health;
    assert_eq!(usual.on_down, OnDown::Keep);
    assert_eq!((usual.check, usual.preface), (ProbeKind::Tcp, Vec::new()));
    assert_eq!(configured("off").health.check, ProbeKind::Off);
    for (name, asked_for) in [("tls", "b.c"), ("named", "d.e")] {
        let probe = ProbeKind::Custom(Arc::new(TlsProbe::new(Some(asked_for))));
        assert_eq!(configured(name).health.check, probe, "{name}");
    }
}

#[test]
fn limits_and_times_are_the_groups_own_or_else_the_gateways() {
    let (own, usual) = (configured("own"), configured("usual"));
    let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
    assert_eq!(own.max_connections, Limit::AtMost(number(16)));
    assert_eq!(usual.max_connections, Limit::Unlimited);
    assert_eq!(own.when_all_down, WhenAllDown::TryAll);
    assert_eq!(usual.when_all_down, WhenAllDown::Refuse);
    let dial = |connect, tries, budget| DialConfig {
        connect: seconds(connect),
        tries: number(tries),
        budget: seconds(budget),
    };
    assert_eq!(own.dial, dial(17, 2, 34));
    assert_eq!(usual.dial, dial(7, 3, 21), "each dial has its time");
    assert_eq!(
        (own.relay.idle, own.relay.lifetime),
        (Some(minutes(18)), None)
    );
    let lifetime = Some(Duration::from_hours(9));
    assert_eq!(
        (usual.relay.idle, usual.relay.lifetime),
        (Some(minutes(8)), lifetime)
    );
    let ends = |relay: RelayConfig| (relay.half_closed, relay.stall, relay.keepalive);
    assert_eq!(ends(own.relay), (Some(seconds(24)), None, seconds(20)));
    let gateways = (Some(seconds(21)), Some(seconds(22)), seconds(23));
    assert_eq!(ends(usual.relay), gateways);
    for relay in [own.relay, usual.relay] {
        assert!((relay.lifetime_jitter - 0.3).abs() < 1e-9);
    }
}

#[test]
fn a_client_may_what_its_line_says() {
    let policy = Policy::parse("p.yaml", POLICY).unwrap();
    let limits = |name| client(policy.client(name).unwrap());
    assert_eq!(limits("plain"), ClientLimits::default());
    let (connections, rate) = (
        Limit::AtMost(number(19)),
        Rate::new(number(20), Duration::from_mins(1)),
    );
    let bounded = ClientLimits {
        connections,
        rate: Some(rate),
        wait: Duration::from_secs(21),
    };
    assert_eq!(limits("bounded"), bounded);
}

#[test]
fn the_longest_times_that_a_policy_can_say_are_times_that_a_balancer_takes() {
    let longest = "9999d";
    let text = POLICY
        .replace("connect: 7s", &format!("connect: {longest}"))
        .replace("connect: 17s", &format!("connect: {longest}"))
        .replace("11s", longest)
        .replace("12s", longest)
        .replace("idle: 8m", &format!("idle: {longest}"))
        .replace("9h", longest)
        .replace("21s", longest)
        .replace("tries: 2", "tries: 4294967295");
    let policy = Policy::parse("p.yaml", &text).unwrap();
    for found in policy.groups() {
        assert_eq!(group(found, policy.gateway()).check(), Ok(()));
    }
    let longer = text.replace(longest, "10000d");
    assert!(
        Policy::parse("p.yaml", &longer).is_err(),
        "it is the longest"
    );
}
