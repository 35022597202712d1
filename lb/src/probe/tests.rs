//! Who is asked what, and when.

mod pace;

use std::pin::Pin;

use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::group_config::{GroupConfig, UpstreamConfig, UpstreamState};
use crate::probe_kind::Probe;

const BOUND: Duration = Duration::from_secs(20);

struct World {
    prober: Prober,
    listener: TcpListener,
    address: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let (tasks, stopped) = (TaskTracker::new(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            prober: Prober::new(Handle::current(), tasks, stopped),
            listener,
            address,
        }
    }

    fn config(&self, check: ProbeKind) -> GroupConfig {
        let health = HealthConfig {
            check,
            interval: Duration::from_millis(20),
            ..HealthConfig::default()
        };
        GroupConfig {
            health,
            ..GroupConfig::new("ledger", vec![UpstreamConfig::new(self.address)])
        }
    }

    fn group(&self, check: ProbeKind) -> Arc<UpstreamGroup> {
        let group = Arc::new(UpstreamGroup::new(self.config(check)));
        group.probe(&self.prober);
        group
    }

    async fn becomes(&self, group: &UpstreamGroup, health: UpstreamHealth) {
        let reached = async {
            while group.health(self.address) != Some(health) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(BOUND, reached)
            .await
            .unwrap_or_else(|_| panic!("it never became {health}"));
    }

    /// Answers every connection, for ever.
    async fn answer(&self, answer: &[u8]) {
        loop {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            let mut question = [0; 4];
            if stream.read_exact(&mut question).await.is_ok() && &question == b"PING" {
                stream.write_all(answer).await.unwrap();
            }
        }
    }
}

fn ping() -> ProbeKind {
    ProbeKind::SendExpect {
        send: b"PING".to_vec(),
        expect: b"+PONG".to_vec(),
    }
}

#[tokio::test]
async fn an_upstream_that_listens_comes_up_and_goes_down_when_it_stops() {
    let mut world = World::new().await;
    let group = world.group(ProbeKind::Tcp);
    world.becomes(&group, UpstreamHealth::Up).await;
    world.listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.becomes(&group, UpstreamHealth::Down).await;
}

#[tokio::test]
async fn an_upstream_that_answers_as_expected_comes_up() {
    let world = World::new().await;
    let group = world.group(ping());
    tokio::select! {
        () = world.answer(b"+PONG and more") => {}
        () = world.becomes(&group, UpstreamHealth::Up) => {}
    }
}

#[tokio::test]
async fn an_upstream_that_has_answered_need_say_no_more() {
    let world = World::new().await;
    let group = world.group(ping());
    let mut kept = Vec::new();
    let answer = async {
        loop {
            let (mut stream, _) = world.listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
            stream.write_all(b"+PONG").await.unwrap();
            kept.push(stream);
        }
    };
    tokio::select! {
        () = answer => {}
        () = world.becomes(&group, UpstreamHealth::Up) => {}
    }
}

#[tokio::test]
async fn a_group_that_is_gone_is_asked_after_no_more() {
    let world = World::new().await;
    let mut config = world.config(ProbeKind::Tcp);
    config.health.interval = Duration::from_hours(1);
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    world.becomes(&group, UpstreamHealth::Up).await;
    drop(group);
    let tasks = &world.prober.tasks;
    tasks.close();
    timeout(BOUND, tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn an_upstream_that_answers_otherwise_goes_down() {
    let world = World::new().await;
    let group = world.group(ping());
    tokio::select! {
        () = world.answer(b"-LOADING") => {}
        () = world.becomes(&group, UpstreamHealth::Down) => {}
    }
}

#[tokio::test]
async fn an_upstream_that_accepts_and_says_nothing_goes_down() {
    let world = World::new().await;
    let mut config = world.config(ping());
    config.health.timeout = Duration::from_millis(20);
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    world.becomes(&group, UpstreamHealth::Down).await;
}

/// Panics first, and passes then.
#[derive(Debug, Default)]
struct Moody(AtomicU32);

impl Probe for Moody {
    fn key(&self) -> &'static str {
        "moody"
    }

    fn probe(&self, _: TcpStream) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        Box::pin(async {
            assert!(
                self.0.fetch_add(1, Relaxed) > 0,
                "a bug in somebody's probe"
            );
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_probe_that_panics_has_failed_and_is_asked_again() {
    let world = World::new().await;
    let moody = Arc::new(Moody::default());
    let group = world.group(ProbeKind::Custom(Arc::clone(&moody) as Arc<dyn Probe>));
    world.becomes(&group, UpstreamHealth::Up).await;
    assert!(moody.0.load(Relaxed) >= 2, "one panic and one pass");
}

#[tokio::test]
async fn only_those_are_probed_that_should_be_and_the_others_keep_their_phase() {
    let world = World::new().await;
    let group = world.group(ProbeKind::Tcp);
    assert_eq!(world.prober.tasks.len(), 1);
    let other = UpstreamConfig::new(([127, 0, 0, 1], 1).into());
    let mut config = world.config(ProbeKind::Tcp);
    config.upstreams.push(other);
    let before = group.probes().ids();
    group.alter(config.clone());
    group.probe(&world.prober);
    assert_eq!(group.probes().ids().len(), 2);
    assert!(
        before.iter().all(|id| group.probes().ids().contains(id)),
        "the old probe goes on"
    );

    config.upstreams[0].state = UpstreamState::Maint;
    config.upstreams.pop();
    group.alter(config);
    group.probe(&world.prober);
    assert!(
        group.probes().ids().is_empty(),
        "neither maintained nor removed ones are probed"
    );
    group.alter(world.config(ProbeKind::Off));
    group.probe(&world.prober);
    assert!(group.probes().ids().is_empty());
    world.prober.tasks.close();
    timeout(BOUND, world.prober.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn other_health_settings_begin_the_probes_anew() {
    let world = World::new().await;
    let group = world.group(ProbeKind::Tcp);
    let before = group.probes().ids();
    let mut config = world.config(ProbeKind::Tcp);
    config.health.interval = Duration::from_secs(7);
    group.alter(config);
    group.probe(&world.prober);
    let after = group.probes().ids();
    assert_eq!(after.len(), 1);
    assert_ne!(after, before, "it would wait for the old interval");
}

#[tokio::test]
async fn probes_end_with_their_group() {
    let world = World::new().await;
    drop(world.group(ProbeKind::Tcp));
    world.prober.tasks.close();
    timeout(BOUND, world.prober.tasks.wait()).await.unwrap();
}

#[test]
fn checks_are_equal_when_they_ask_the_same() {
    let custom = || ProbeKind::Custom(Arc::new(Moody::default()));
    assert_eq!(custom(), custom(), "two probes with one key");
    assert_eq!(ping(), ping());
    assert_ne!(
        ping(),
        ProbeKind::SendExpect {
            send: Vec::new(),
            expect: b"+PONG".to_vec()
        }
    );
    assert_ne!(ProbeKind::Tcp, ProbeKind::Off);
    assert_ne!(custom(), ProbeKind::Tcp);
}

/// What a probe says of an upstream that takes so many bytes and answers so.
async fn said(
    preface: &[u8],
    taken: usize,
    answer: &'static [u8],
) -> (Vec<u8>, Option<FailureCause>) {
    let world = World::new().await;
    let mut config = world.config(ping());
    config.health.preface = preface.to_vec();
    config.health.fall = std::num::NonZeroU32::MIN;
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    let (mut stream, _) = world.listener.accept().await.unwrap();
    let mut question = vec![0; taken];
    stream.read_exact(&mut question).await.unwrap();
    stream.write_all(answer).await.unwrap();
    stream.shutdown().await.unwrap();
    let told = async {
        while group.health(world.address) == Some(UpstreamHealth::Unknown) {
            sleep(Duration::from_millis(5)).await;
        }
        group.upstreams()[0].cause.clone()
    };
    (question, timeout(BOUND, told).await.unwrap())
}

#[tokio::test]
async fn a_probe_says_the_preface_first_and_tells_each_answer_apart() {
    assert_eq!(said(b"", 4, b"+PONG!").await, (b"PING".to_vec(), None));
    assert_eq!(said(b"HI ", 7, b"+PONG").await, (b"HI PING".to_vec(), None));
    assert_eq!(said(b"", 4, b"").await.1, Some(FailureCause::Closed));
    let unexpected = |answer: &[u8]| Some(FailureCause::UnexpectedAnswer(Excerpt::of(answer)));
    assert_eq!(said(b"", 4, b"+PO").await.1, unexpected(b"+PO"));
    assert_eq!(
        said(b"", 4, b"-LOADING it").await.1,
        unexpected(b"-LOADING it")
    );
}

#[tokio::test]
async fn an_answer_that_cannot_become_the_expected_one_is_not_waited_for() {
    let world = World::new().await;
    let mut config = world.config(ping());
    config.health.timeout = Duration::from_hours(1);
    config.health.fall = std::num::NonZeroU32::MIN;
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    let (mut stream, _) = world.listener.accept().await.unwrap();
    stream.write_all(b"-E").await.unwrap();
    world.becomes(&group, UpstreamHealth::Down).await;
    let told = FailureCause::UnexpectedAnswer(Excerpt::of(b"-E"));
    assert_eq!(group.upstreams()[0].cause, Some(told));
}

#[test]
fn what_only_we_lack_is_no_failure_of_an_upstream() {
    const NO_DESCRIPTORS: i32 = 24;
    let ours = ProbeFailure::from(io::Error::from_raw_os_error(NO_DESCRIPTORS));
    assert!(matches!(ours, ProbeFailure::Ours(_)), "{ours:?}");
    let theirs = ProbeFailure::from(io::Error::from(io::ErrorKind::ConnectionRefused));
    assert!(
        matches!(theirs, ProbeFailure::Theirs(FailureCause::Refused)),
        "{theirs:?}"
    );
}

#[tokio::test]
async fn an_upstream_is_starting_until_its_first_probe_has_ended() {
    let world = World::new().await;
    let _group = world.group(ProbeKind::Tcp);
    assert_eq!(world.prober.starting.load(Relaxed), 1);
    let ended = async {
        while world.prober.starting.load(Relaxed) > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, ended).await.unwrap();
}

/// Never ends, and shows how many of it there are.
#[derive(Debug)]
struct Stuck(Arc<()>);

impl Probe for Stuck {
    fn key(&self) -> &'static str {
        "stuck"
    }

    fn probe(&self, _: TcpStream) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        let held = Arc::clone(&self.0);
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(held);
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_probe_that_takes_too_long_is_ended() {
    let world = World::new().await;
    let held = Arc::new(());
    let mut config = world.config(ProbeKind::Custom(Arc::new(Stuck(Arc::clone(&held)))));
    config.health.timeout = Duration::from_millis(20);
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    world.becomes(&group, UpstreamHealth::Down).await;
    group.probes().stop_all();
    drop(group);
    let ended = async {
        while Arc::strong_count(&held) > 1 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, ended).await.unwrap();
}
