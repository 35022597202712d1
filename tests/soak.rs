//! A gateway under mixed load for as long as it is told to, with reloads, upgrades, revocations and
//! faults all the while. `tests/soak.sh HOURS` runs it and prints the figures.
//!
//! `PORTCULLIS_SOAK_SECONDS` says how long it takes, `PORTCULLIS_SOAK_MINUTE` how many seconds a
//! minute of its timetable has: fewer than 60 press the same changes into less time.

mod figures;
mod load;
mod timetable;

use std::sync::Arc;
use std::time::Duration;

use figures::Figures;
use load::Load;
use timetable::{Stage, Timetable};

fn seconds(variable: &str, usual: u64) -> Duration {
    let set = std::env::var(variable).map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(set.unwrap_or(usual))
}

#[tokio::test]
#[ignore = "takes as long as it is told to: tests/soak.sh"]
async fn no_client_loses_a_connection_or_a_byte_while_everything_changes() {
    let duration = seconds("PORTCULLIS_SOAK_SECONDS", 60);
    let minute = seconds("PORTCULLIS_SOAK_MINUTE", 60);
    let figures = Arc::new(Figures::default());
    let mut stage = Stage::set(Arc::clone(&figures)).await;
    let load = Load::start(&stage.world, stage.gateway.address, &figures, minute);
    let mut timetable = Timetable::new(minute, duration);
    while let Some(event) = timetable.next().await {
        stage.carry_out(event).await;
    }
    load.stop().await;
    stage.end().await;
    println!("{figures}");
    assert_eq!(figures.failures(), Vec::<String>::new());
    assert!(figures.is_complete(), "every kind of event took place");
}
