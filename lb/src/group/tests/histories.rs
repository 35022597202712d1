//! Counts equal a plain list of who is connected, whatever happens in whatever order.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::group_config::WhenAllDown;
use crate::lease::Lease;

#[derive(Debug, Clone)]
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

#[derive(Debug, Clone, Copy)]
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
