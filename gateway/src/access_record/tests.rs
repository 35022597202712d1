use serde_json::Value;

use super::*;
use crate::test_support::GatewayFiles;

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

/// The records that this writes, in their order.
fn written(write: impl FnOnce(&Arc<Recorder>)) -> Vec<Value> {
    let files = GatewayFiles::with_clients("{}");
    let recorder = Arc::new(Recorder::new(files.sink()));
    write(&recorder);
    read(&files, &recorder)
}

fn read(files: &GatewayFiles, recorder: &Recorder) -> Vec<Value> {
    recorder.sink().flush();
    let text = std::fs::read_to_string(files.dir().join("log")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn events(records: &[Value]) -> Vec<&str> {
    let events = records.iter().map(|record| record["event"].as_str());
    events.collect::<Option<_>>().unwrap()
}

#[test]
fn every_opening_has_an_end_whatever_ends_the_connection_and_however_many_there_are() {
    const MANY: usize = 200;
    let records = written(|recorder| {
        for _ in 0..MANY {
            let mut record = Record::begin(recorder, ADDRESS, ADDRESS);
            record.relay_begins(OpenedRecords::Written);
            // As in a panic.
            drop(record);
        }
    });
    assert_eq!(events(&records), ["opened", "closed"].repeat(MANY));
    for pair in records.chunks(2) {
        assert_eq!(pair[0]["connection"], pair[1]["connection"]);
        assert_eq!(pair[1]["reason"], "internal");
    }
}

#[test]
fn a_connection_that_was_not_relayed_is_refused_whatever_ended_it() {
    let records = written(|recorder| {
        for outcome in [
            Outcome::CutOff,
            Outcome::Revoked,
            Outcome::Rejected(Rejection::MemoryFull),
        ] {
            Record::begin(recorder, ADDRESS, ADDRESS).end(outcome);
        }
        drop(Record::begin(recorder, ADDRESS, ADDRESS));
    });
    assert_eq!(events(&records), ["refused"; 4]);
}

#[test]
fn an_end_is_recorded_without_its_opening_if_openings_are_off() {
    let records = written(|recorder| {
        let mut record = Record::begin(recorder, ADDRESS, ADDRESS);
        record.relay_begins(OpenedRecords::Off);
        record.end(Outcome::Finished);
    });
    assert_eq!(events(&records), ["closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_open_is_recorded_each_hour_with_its_bytes() {
    let files = GatewayFiles::with_clients("{}");
    let recorder = Arc::new(Recorder::new(files.sink()));
    let mut record = Record::begin(&recorder, ADDRESS, ADDRESS);
    record.relay_begins(OpenedRecords::Written);
    let a_while = STILL_OPEN * 3 + Duration::from_secs(1);
    tokio::time::timeout(a_while, record.report_open())
        .await
        .unwrap_err();
    record.end(Outcome::Finished);
    drop(record);
    let records = read(&files, &recorder);
    assert_eq!(
        events(&records),
        ["opened", "open", "open", "open", "closed"]
    );
    for open in &records[1..4] {
        assert_eq!(open["connection"], records[0]["connection"]);
        for key in ["duration_seconds", "received_bytes", "sent_bytes"] {
            assert!(open[key].is_number(), "{open}");
        }
        assert!(open.get("reason").is_none(), "{open}");
    }
}
