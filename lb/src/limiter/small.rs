//! Every short history of two clients, compared with a model that only counts.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::FakeRelativeClock;

use super::*;

/// One event. The number is the client's.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The client asks for a connection, may have one, and has no rate.
    One(usize),
    /// The client asks for a connection, may have two, and may open one a second.
    Two(usize),
    /// Another process has admitted it.
    Adopt(usize),
    /// Its oldest connection ends.
    End(usize),
    /// A second passes.
    Second,
}

const STEPS: [Step; 8] = [
    Step::One(0),
    Step::Two(0),
    Step::Adopt(0),
    Step::End(0),
    Step::Two(1),
    Step::Adopt(1),
    Step::End(1),
    Step::Second,
];
const LONGEST_HISTORY: u32 = 5;

/// Expected state of one client.
#[derive(Default)]
struct Model {
    open: u32,
    /// True if it has asked for a connection within this second under a rate.
    came: bool,
}

/// A limiter, the connections that it has admitted, and the model.
struct World {
    limiter: Limiter<FakeRelativeClock>,
    clock: FakeRelativeClock,
    names: [SharedName; 2],
    held: [Vec<ClientSlot>; 2],
    models: [Model; 2],
}

impl World {
    fn new() -> Self {
        let clock = FakeRelativeClock::default();
        Self {
            limiter: Limiter::new(clock.clone()),
            clock,
            names: ["billing".into(), "reports".into()],
            held: Default::default(),
            models: Default::default(),
        }
    }

    fn come(&mut self, client: usize, most: u32, rate: Option<Rate>) -> bool {
        let model = &mut self.models[client];
        let is_expected = model.open < most && !(rate.is_some() && model.came);
        model.came |= rate.is_some() && model.open < most;
        model.open += u32::from(is_expected);
        let connections = Limit::AtMost(NonZeroU32::new(most).unwrap());
        let limits = ClientLimits {
            connections,
            rate,
            wait: Duration::ZERO,
        };
        let admitted = self.limiter.admit(&self.names[client], &limits);
        let is_right = admitted.is_ok() == is_expected;
        self.held[client].extend(admitted);
        is_right
    }

    /// Applies one event. Returns true if the limiter agrees with the model.
    fn step(&mut self, step: Step) -> bool {
        let is_right = match step {
            Step::One(client) => self.come(client, 1, None),
            Step::Two(client) => self.come(client, 2, Some(Rate::per_second(NonZeroU32::MIN))),
            Step::Adopt(client) => {
                self.held[client].push(self.limiter.admit_unlimited(&self.names[client]));
                self.models[client].open += 1;
                true
            }
            Step::End(client) => {
                if self.models[client].open > 0 {
                    drop(self.held[client].remove(0));
                    self.models[client].open -= 1;
                }
                true
            }
            Step::Second => {
                self.clock.advance(Duration::from_secs(1));
                self.models.iter_mut().for_each(|one| one.came = false);
                true
            }
        };
        let open = [0, 1].map(|client| self.limiter.open(&self.names[client]));
        let known = self.models.iter().filter(|one| one.open > 0).count();
        is_right
            && open == [self.models[0].open, self.models[1].open]
            && self.limiter.clients() == known
    }
}

#[test]
fn every_short_history_of_two_clients_is_counted_as_it_happened() {
    for number in 0..STEPS.len().pow(LONGEST_HISTORY) {
        let step = |place| STEPS[number / STEPS.len().pow(place) % STEPS.len()];
        let mut world = World::new();
        for place in 0..LONGEST_HISTORY {
            let history = || (0..=place).map(step).collect::<Vec<_>>();
            assert!(world.step(step(place)), "{:?}", history());
        }
        world.held = Default::default();
        assert_eq!(world.limiter.clients(), 0, "nothing is left behind");
    }
}
