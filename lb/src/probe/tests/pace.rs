//! Pauses between probes.

use super::*;

#[test]
fn first_probes_are_spread_over_all_upstreams_but_not_beyond_the_interval() {
    let config = HealthConfig::default();
    let millis = |already, chance| config.first_pause(already, chance).as_millis();
    assert_eq!(millis(0, 1.0), 0, "the only upstream is probed at once");
    assert_eq!(
        [0.0, 0.5, 1.0].map(|chance| millis(100, chance)),
        [0, 50, 100]
    );
    assert_eq!(millis(1_000_000, 1.0), 5000);
}

#[test]
fn pauses_are_jittered_and_short_while_nothing_is_known() {
    let config = HealthConfig::default();
    let millis = |health, chance| config.pause(health, chance).as_millis();
    assert_eq!(
        [0.0, 0.5, 1.0].map(|chance| millis(UpstreamHealth::Up, chance)),
        [4500, 5000, 5500]
    );
    assert_eq!(millis(UpstreamHealth::Down, 0.5), 5000);
    assert_eq!(millis(UpstreamHealth::Unknown, 0.5), 200);
    let fast = HealthConfig {
        interval: Duration::from_millis(50),
        ..config
    };
    assert_eq!(fast.pause(UpstreamHealth::Unknown, 0.5).as_millis(), 50);
}

/// When it was asked, by tokio's clock, and about whom.
#[derive(Debug, Default)]
struct Diary(parking_lot::Mutex<Vec<(SocketAddr, Instant)>>);

impl Probe for Diary {
    fn key(&self) -> &'static str {
        "diary"
    }

    fn probe(
        &self,
        stream: TcpStream,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send + '_>> {
        Box::pin(async move {
            self.0.lock().push((stream.peer_addr()?, Instant::now()));
            Ok(())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn neither_first_probes_nor_later_ones_are_in_step() {
    const UPSTREAMS: usize = 12;
    let world = World::new().await;
    let diary = Arc::new(Diary::default());
    let mut config = world.config(ProbeKind::Custom(Arc::clone(&diary) as Arc<dyn Probe>));
    config.health.interval = Duration::from_secs(100);
    let mut listeners = Vec::new();
    for _ in 0..UPSTREAMS {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<_> = listeners
        .iter()
        .map(|it| it.local_addr().unwrap())
        .collect();
    config.upstreams = addresses.iter().copied().map(UpstreamConfig::new).collect();
    let group = Arc::new(UpstreamGroup::new(config));
    group.probe(&world.prober);
    // A few rounds: each takes from 90 to 110 s.
    sleep(Duration::from_secs(350)).await;

    let diary = diary.0.lock();
    let of = |address: &SocketAddr| -> Vec<Instant> {
        let asked = diary.iter().filter(|(asked, _)| asked == address);
        asked.map(|(_, at)| *at).collect()
    };
    let first: Vec<_> = addresses.iter().map(|address| of(address)[0]).collect();
    assert!(!first.is_sorted(), "first probes are spread at random");
    let gaps: Vec<_> = addresses
        .iter()
        .flat_map(|address| {
            of(address)
                .windows(2)
                .map(|two| two[1] - two[0])
                .collect::<Vec<_>>()
        })
        .map(|gap| gap.as_secs())
        .collect();
    assert!(gaps.iter().any(|gap| gap != &gaps[0]), "{gaps:?}");
}
