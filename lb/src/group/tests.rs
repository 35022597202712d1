//! Counts equal a plain list of who is connected, whatever happens in whatever order.

mod each_upstream;

use std::{
    collections::BTreeMap,
    mem,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::Duration,
};

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    group_config::{HealthConfig, UpstreamConfig, UpstreamState, WhenAllDown},
    lease::Lease,
    limit::Limit,
    probe_kind::ProbeKind,
};

const RISE: u32 = 2;
const FALL: u32 = 2;

fn address(n: u16) -> SocketAddr {
    ([127, 0, 0, 1], n).into()
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn config(upstreams: Vec<UpstreamConfig>, check: ProbeKind) -> GroupConfig {
    let health = HealthConfig {
        check,
        rise: number(RISE),
        fall: number(FALL),
        ..HealthConfig::default()
    };
    GroupConfig {
        health,
        // What is looked at here are loads as they are.
        slow_start: Duration::ZERO,
        ..GroupConfig::new("ledger", upstreams)
    }
}

fn upstreams(ports: impl IntoIterator<Item = u16>) -> Vec<UpstreamConfig> {
    ports
        .into_iter()
        .map(|port| UpstreamConfig::new(address(port)))
        .collect()
}

fn group(config: GroupConfig) -> Arc<UpstreamGroup> {
    Arc::new(UpstreamGroup::new(config))
}

fn health(group: &UpstreamGroup, port: u16) -> UpstreamHealth {
    group.health(address(port)).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Arrive {
        tried: Vec<u16>,
    },
    Adopt(u16),
    Leave(usize),
    Panic(usize),
    FailDial(usize),
    Probe(u16, bool),
    Reload {
        upstreams: Vec<UpstreamConfig>,
        limit: Limit,
        when_all_down: WhenAllDown,
    },
}

fn any_upstream() -> impl Strategy<Value = UpstreamConfig> {
    let state = prop_oneof![
        4 => Just(UpstreamState::Ready),
        1 => Just(UpstreamState::Drain),
        1 => Just(UpstreamState::Maint),
    ];
    (0..6_u16, 1..4_u32, any::<bool>(), state).prop_map(|(port, weight, backup, state)| {
        UpstreamConfig {
            address: address(port),
            weight: number(weight),
            backup,
            state,
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![
        Just(Limit::Unlimited),
        (1..12_u32).prop_map(|limit| Limit::AtMost(number(limit))),
    ];
    let when_all_down = prop_oneof![Just(WhenAllDown::Refuse), Just(WhenAllDown::TryAll)];
    prop_oneof![
        8 => vec(0..6_u16, 0..3).prop_map(|tried| Step::Arrive { tried }),
        1 => (0..8_u16).prop_map(Step::Adopt),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Panic),
        2 => any::<usize>().prop_map(Step::FailDial),
        6 => (0..6_u16, prop::bool::weighted(0.6)).prop_map(|(port, passed)| Step::Probe(port, passed)),
        2 => (vec(any_upstream(), 0..6), limit, when_all_down).prop_map(
            |(mut upstreams, limit, when_all_down)| {
                upstreams.sort_by_key(|upstream| upstream.address);
                upstreams.dedup_by_key(|upstream| upstream.address);
                Step::Reload { upstreams, limit, when_all_down }
            }
        ),
    ]
}

/// What a group must know, found out beside it: only steps move it, never the group's own word.
#[derive(Debug)]
struct Model {
    upstreams: BTreeMap<u16, Known>,
    limit: Limit,
    when_all_down: WhenAllDown,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    config: UpstreamConfig,
    is_up: Option<bool>,
    passes: u32,
    failed_probes: u32,
    failed_dials: u32,
}

impl Known {
    fn new(config: UpstreamConfig) -> Self {
        Self {
            config,
            is_up: None,
            passes: 0,
            failed_probes: 0,
            failed_dials: 0,
        }
    }

    fn becomes(&mut self, is_up: bool) {
        *self = Self {
            is_up: Some(is_up),
            ..Self::new(self.config)
        };
    }

    fn probed(&mut self, passed: bool) {
        if self.config.state == UpstreamState::Maint {
            return;
        }
        if passed {
            (self.passes, self.failed_probes) = (self.passes + 1, 0);
            if self.is_up.is_none() || self.is_up == Some(false) && self.passes == RISE {
                self.becomes(true);
            }
        } else {
            (self.passes, self.failed_probes) = (0, self.failed_probes + 1);
            if self.is_up != Some(false) && self.failed_probes == FALL {
                self.becomes(false);
            }
        }
    }

    fn dial_failed(&mut self) {
        if self.config.state != UpstreamState::Maint && self.is_up == Some(true) {
            self.failed_dials += 1;
            if self.failed_dials == FALL {
                self.becomes(false);
            }
        }
    }

    fn health(&self) -> UpstreamHealth {
        match self.is_up {
            None => UpstreamHealth::Unknown,
            Some(true) => UpstreamHealth::Up,
            Some(false) => UpstreamHealth::Down,
        }
    }
}

impl Model {
    fn new(upstreams: Vec<UpstreamConfig>) -> Self {
        let mut model = Self {
            upstreams: BTreeMap::new(),
            limit: Limit::Unlimited,
            when_all_down: WhenAllDown::Refuse,
        };
        model.reload(upstreams);
        model
    }

    fn reload(&mut self, upstreams: Vec<UpstreamConfig>) {
        let mut before = mem::take(&mut self.upstreams);
        for config in upstreams {
            let port = config.address.port();
            let known = before
                .remove(&port)
                .filter(|_| config.state != UpstreamState::Maint);
            let known = known.map_or(Known::new(config), |known| Known { config, ..known });
            self.upstreams.insert(port, known);
        }
    }

    /// Who may be chosen now.
    fn eligible(&self, tried: &[SocketAddr]) -> Result<Vec<UpstreamConfig>, NoLease> {
        let with = |is_up, backup: Option<bool>| -> Vec<UpstreamConfig> {
            let ready = self.upstreams.values();
            ready
                .filter(|known| known.config.state == UpstreamState::Ready)
                .filter(|known| known.is_up == Some(is_up))
                .map(|known| known.config)
                .filter(|config| backup.is_none_or(|backup| backup == config.backup))
                .collect()
        };
        let mut tiers = vec![with(true, Some(false)), with(true, Some(true))];
        if self.when_all_down == WhenAllDown::TryAll && tiers.iter().all(Vec::is_empty) {
            tiers = vec![with(false, None)];
        }
        if tiers.iter().all(Vec::is_empty) {
            return Err(NoLease::NoneHealthy);
        }
        for tier in &mut tiers {
            tier.retain(|config| !tried.contains(&config.address));
        }
        tiers
            .into_iter()
            .find(|tier| !tier.is_empty())
            .ok_or(NoLease::AllTried)
    }
}

fn arrive(group: &Arc<UpstreamGroup>, model: &Model, tried: &[u16], held: &mut Vec<Lease>) {
    let tried: Vec<_> = tried.iter().map(|&port| address(port)).collect();
    let limit = model.limit;
    let full = matches!(limit, Limit::AtMost(limit) if held.len() >= limit.get() as usize);
    let expected = model.eligible(&tried);
    match group.lease(&tried) {
        Err(refusal) if full => assert_eq!(refusal, NoLease::GroupFull { limit }),
        Err(refusal) => assert_eq!(Err(refusal), expected.map(|_| ())),
        Ok(lease) => {
            assert!(!full);
            // Weights are 1, 2 or 3, so this is no rounding.
            let load = |config: &UpstreamConfig| {
                let open = held
                    .iter()
                    .filter(|lease| lease.address() == config.address);
                open.count() * 6 / config.weight.get() as usize
            };
            let candidates = expected.unwrap();
            let minimum = candidates.iter().map(load).min();
            let chosen = candidates
                .iter()
                .find(|config| config.address == lease.address());
            assert!(
                Some(load(chosen.unwrap())) <= minimum,
                "another had less load"
            );
            held.push(lease);
        }
    }
}

fn take_out(held: &mut Vec<Lease>, which: usize) -> Option<Lease> {
    (!held.is_empty()).then(|| held.swap_remove(which % held.len()))
}

fn take_step(group: &Arc<UpstreamGroup>, model: &mut Model, step: Step, held: &mut Vec<Lease>) {
    match step {
        Step::Arrive { tried } => arrive(group, model, &tried, held),
        Step::Adopt(port) => held.push(group.adopt(address(port))),
        Step::Leave(which) => drop(take_out(held, which)),
        Step::Panic(which) => {
            let lease = take_out(held, which);
            let bug = AssertUnwindSafe(move || {
                let _lease = lease;
                resume_unwind(Box::new("a bug in one connection"));
            });
            assert!(catch_unwind(bug).is_err());
        }
        Step::FailDial(which) => {
            if let Some(lease) = take_out(held, which) {
                group.dialed(lease.address(), Err(FailureCause::Refused));
                if let Some(known) = model.upstreams.get_mut(&lease.address().port()) {
                    known.dial_failed();
                }
            }
        }
        Step::Probe(port, passed) => {
            let probe = if passed {
                Ok(())
            } else {
                Err(FailureCause::Refused)
            };
            group.probed(address(port), probe);
            if let Some(known) = model.upstreams.get_mut(&port) {
                known.probed(passed);
            }
        }
        Step::Reload {
            upstreams,
            limit,
            when_all_down,
        } => {
            model.reload(upstreams.clone());
            (model.limit, model.when_all_down) = (limit, when_all_down);
            group.alter(GroupConfig {
                max_connections: limit,
                when_all_down,
                ..config(upstreams, ProbeKind::Tcp)
            });
        }
    }
}

fn assert_agree(group: &UpstreamGroup, model: &Model, held: &[Lease]) {
    assert_eq!(group.open() as usize, held.len());
    let status = group.upstreams();
    assert_eq!(status.len(), model.upstreams.len());
    for (upstream, known) in status.iter().zip(model.upstreams.values()) {
        let here = held
            .iter()
            .filter(|lease| lease.address() == upstream.address);
        assert_eq!(upstream.open as usize, here.count());
        assert_eq!(
            (upstream.address, upstream.health),
            (known.config.address, known.health())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_and_health_equal_what_happened_and_the_least_loaded_is_chosen(
        steps in vec(any_step(), 1..120)
    ) {
        let group = group(config(upstreams(0..4), ProbeKind::Tcp));
        let mut model = Model::new(upstreams(0..4));
        let mut held = Vec::new();
        for step in steps {
            take_step(&group, &mut model, step, &mut held);
            assert_agree(&group, &model, &held);
        }
        held.clear();
        prop_assert_eq!(group.open(), 0);
    }

    #[test]
    fn whatever_threads_do_at_once_every_count_holds(
        plans in vec(vec(any_step(), 1..60), 2..4)
    ) {
        let group = group(config(upstreams(0..4), ProbeKind::Tcp));
        (0..4).for_each(|port| group.probed(address(port), Ok(())));
        let held: Vec<Lease> = thread::scope(|scope| {
            let threads: Vec<_> = plans
                .into_iter()
                .map(|plan| {
                    let group = &group;
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        // What is right here depends on the others, so only the sums are looked at.
                        let mut model = Model::new(upstreams(0..4));
                        for step in plan {
                            if matches!(step, Step::Arrive { .. }) {
                                held.extend(group.lease(&[]));
                            } else {
                                take_step(group, &mut model, step, &mut held);
                            }
                        }
                        held
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        prop_assert_eq!(group.open() as usize, held.len());
        for upstream in group.upstreams() {
            let here = held.iter().filter(|lease| lease.address() == upstream.address);
            prop_assert_eq!(upstream.open as usize, here.count());
        }
        drop(held);
        prop_assert_eq!(group.open(), 0);
    }
}

#[test]
fn an_upstream_takes_no_connection_before_it_passed_a_probe() {
    let group = group(config(upstreams([1]), ProbeKind::Tcp));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    group.probed(address(1), Ok(()));
    assert_eq!(group.lease(&[]).unwrap().address(), address(1));
}

#[test]
fn what_another_process_knows_serves_before_the_first_probe() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.assume(address(1), UpstreamHealth::Up);
    group.assume(address(7), UpstreamHealth::Up);
    assert_eq!(group.lease(&[]).unwrap().address(), address(1));
    assert_eq!(health(&group, 2), UpstreamHealth::Unknown);
}

#[test]
fn a_reload_keeps_health_and_counts_of_upstreams_that_stay() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    let lease = group.lease(&[]).unwrap();
    group.alter(config(upstreams([1, 3]), ProbeKind::Tcp));
    assert_eq!(health(&group, 1), UpstreamHealth::Up);
    assert_eq!(health(&group, 3), UpstreamHealth::Unknown);
    assert_eq!(group.health(address(2)), None);
    assert_eq!(group.upstreams()[0].open, 1);
    drop(lease);
    assert_eq!(group.open(), 0);
}

#[test]
fn an_upstream_that_drains_keeps_its_connections_and_gets_no_new_ones() {
    let group = group(config(upstreams([1]), ProbeKind::Off));
    let lease = group.lease(&[]).unwrap();
    let draining = UpstreamConfig {
        state: UpstreamState::Drain,
        ..UpstreamConfig::new(address(1))
    };
    group.alter(config(vec![draining], ProbeKind::Off));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    assert_eq!((group.open(), lease.address()), (1, address(1)));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Up,
        "draining says nothing about health"
    );
}

#[test]
fn an_upstream_must_pass_again_after_maintenance() {
    let group = group(config(upstreams([1]), ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    let maint = UpstreamConfig {
        state: UpstreamState::Maint,
        ..UpstreamConfig::new(address(1))
    };
    group.alter(config(vec![maint], ProbeKind::Tcp));
    group.probed(address(1), Ok(()));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Unknown,
        "a late probe does not count"
    );
    group.alter(config(upstreams([1]), ProbeKind::Tcp));
    assert_eq!(group.lease(&[]).unwrap_err(), NoLease::NoneHealthy);
    group.probed(address(1), Ok(()));
    assert!(group.lease(&[]).is_ok());
}

#[test]
fn probes_that_are_switched_off_leave_every_upstream_up() {
    let group = group(config(upstreams([1, 2]), ProbeKind::Tcp));
    group.probed(address(1), Err(FailureCause::Refused));
    group.probed(address(1), Err(FailureCause::Refused));
    assert_eq!(
        (health(&group, 1), health(&group, 2)),
        (UpstreamHealth::Down, UpstreamHealth::Unknown)
    );
    group.alter(config(upstreams([1, 2]), ProbeKind::Off));
    assert_eq!(
        (health(&group, 1), health(&group, 2)),
        (UpstreamHealth::Up, UpstreamHealth::Up)
    );
    group.alter(config(upstreams([1, 2]), ProbeKind::Tcp));
    assert_eq!(
        health(&group, 1),
        UpstreamHealth::Up,
        "and up they stay until a probe says otherwise"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unprobed_upstream_rests_after_failed_dials_and_is_tried_again() {
    let group = group(config(upstreams([1]), ProbeKind::Off));
    let interval = group.config().health.interval;
    let fail = || group.dialed(address(1), Err(FailureCause::Refused));
    fail();
    assert_eq!(health(&group, 1), UpstreamHealth::Up);
    fail();
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "two failures in a row"
    );
    group.alter(GroupConfig {
        max_connections: Limit::AtMost(number(5)),
        ..config(upstreams([1]), ProbeKind::Off)
    });
    tokio::time::advance(interval.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "a reload ends no rest"
    );
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(group.lease(&[]).is_ok(), "it is tried again");
    fail();
    assert_eq!(
        group.lease(&[]).unwrap_err(),
        NoLease::NoneHealthy,
        "one failure is enough now"
    );
    tokio::time::advance(interval).await;
    assert_eq!(group.upstreams()[0].health, UpstreamHealth::Up);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_its_share_at_first_and_what_it_lacks_little_by_little() {
    let slow_start = Duration::from_secs(16);
    let config = |ports| GroupConfig {
        slow_start,
        ..config(upstreams(ports), ProbeKind::Off)
    };
    let group = group(config(1..=4));
    let mut held: Vec<_> = (0..400).map(|_| group.lease(&[]).unwrap()).collect();
    group.alter(config(1..=5));
    let mut arrive = |number: usize| {
        let before = held.len();
        held.extend((0..number).map(|_| group.lease(&[]).unwrap()));
        let newcomers = held[before..].iter();
        newcomers
            .filter(|lease| lease.address() == address(5))
            .count()
    };
    assert_eq!(arrive(50), 10, "one of five, though it has none of 400");
    tokio::time::advance(slow_start / 2).await;
    let half = arrive(200);
    assert!((40..200).contains(&half), "{half}");
    tokio::time::advance(slow_start).await;
    arrive(1000);
    let open: Vec<_> = group
        .upstreams()
        .iter()
        .map(|upstream| upstream.open)
        .collect();
    assert_eq!(open, [330; 5], "in the end all are equal");
}

#[test]
fn racing_threads_never_double_up_and_leave_nothing_behind() {
    let group = group(GroupConfig {
        max_connections: Limit::AtMost(number(4)),
        ..config(upstreams(1..=4), ProbeKind::Off)
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let _lease = group.lease(&[]).expect("four for four");
                    // Never more threads than upstreams, so nobody ever has to share.
                    assert!(group.upstreams().iter().all(|upstream| upstream.open <= 1));
                }
            });
        }
    });
    assert_eq!(group.open(), 0);
}

#[test]
fn upstreams_that_are_changed_one_by_one_and_all_at_once_end_up_the_same() {
    let one = group(config(upstreams(1..=3), ProbeKind::Off));
    let lease = one.lease(&[address(2), address(3)]).unwrap();
    let drained = UpstreamConfig {
        state: UpstreamState::Drain,
        ..UpstreamConfig::new(address(2))
    };
    one.put_upstream(UpstreamConfig::new(address(4)));
    one.put_upstream(drained);
    one.remove_upstream(address(1));
    one.remove_upstream(address(9));
    let mut same = upstreams(2..=4);
    same[0] = drained;
    let other = group(config(upstreams(1..=3), ProbeKind::Off));
    other.alter(config(same, ProbeKind::Off));
    assert_eq!(
        (one.upstreams(), one.config()),
        (other.upstreams(), other.config())
    );
    assert_eq!(one.open(), 1, "the removed one is still counted");
    drop(lease);
    assert_eq!(one.open(), 0);
}

#[test]
fn of_two_upstreams_with_one_address_the_last_counts() {
    let twice = |weights: [u32; 2]| {
        let upstreams = weights.map(|weight| UpstreamConfig {
            weight: number(weight),
            ..UpstreamConfig::new(address(1))
        });
        config(upstreams.into(), ProbeKind::Off)
    };
    let group = group(twice([1, 2]));
    let weight = |group: &UpstreamGroup| group.upstreams()[0].weight.get();
    assert_eq!(weight(&group), 2);
    group.alter(twice([5, 2]));
    assert_eq!(weight(&group), 2, "that one has not changed");
    group.alter(twice([2, 3]));
    assert_eq!(weight(&group), 3);
    let heavy = twice([1, 7]).upstreams[1];
    group.put_upstream(heavy);
    assert_eq!(weight(&group), 7);
    assert_eq!(group.config().upstreams[1], heavy);
}

#[test]
fn reloads_that_race_connections_lose_no_count() {
    let group = group(config(upstreams(1..=4), ProbeKind::Off));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..5_000).for_each(|_| drop(group.lease(&[]))));
        }
        for round in 0..2_000 {
            group.alter(config(upstreams(1..=1 + round % 4), ProbeKind::Off));
        }
    });
    assert_eq!(group.open(), 0);
    group.alter(config(upstreams(1..=4), ProbeKind::Off));
    assert!(group.upstreams().iter().all(|upstream| upstream.open == 0));
}
