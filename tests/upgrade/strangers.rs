//! Strangers who connect without pause while one process takes over from another.

use super::load::{upgrade_under_load, with_a_limited_client};
use super::{leave, world};
use crate::harness::{Flood, STRANGERS, Upstream, until};

const UPGRADES: usize = 3;

#[tokio::test]
async fn the_old_process_stops_accepting_while_strangers_connect_without_pause() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let old = world.visit(&gateway, "alice").await;
    let first = gateway.process();
    let flood = Flood::begin(gateway.address).await;

    gateway.upgrade(&[]).await.unwrap();

    // It has closed all of its listeners, while the strangers go on.
    until(async || (listeners(first) == 0).then_some(())).await;
    leave(old).await;
    flood.end().await;
}

#[tokio::test]
async fn strangers_who_connect_without_pause_keep_no_client_out_of_an_upgrade_and_let_none_past_a_limit()
 {
    let db = Upstream::start("db").await;
    let mut world = world(&[&db]);
    with_a_limited_client(&mut world);
    let mut gateway = world.start().await;
    let first = gateway.first();
    let flood = Flood::begin(gateway.address).await;
    let addresses = [gateway.address];
    upgrade_under_load(&world, &mut gateway, &addresses, UPGRADES).await;
    until(async || (listeners(first) == 0).then_some(())).await;
    flood.end().await;
    let strangers = STRANGERS.to_string();
    let records = gateway.records().into_iter();
    let knocked = records.filter(|record| record["source_address"] == strangers);
    assert!(knocked.count() > 0, "strangers were refused");
}

/// How many of a process's sockets listen at an address.
fn listeners(process: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?;
            Some(inode.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).unwrap();
    // proc_net_tcp(5): the state is the fourth field, 0A is a listener; the inode is the tenth.
    let listening = table.lines().filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(3) == Some(&"0A")
            && fields
                .get(9)
                .is_some_and(|inode| inodes.iter().any(|own| own == inode))
    });
    listening.count()
}
