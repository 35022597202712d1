//! Strangers who connect without pause while one process takes over from another.

use super::{leave, world};
use crate::harness::{Flood, Upstream, until};

#[tokio::test]
async fn the_old_process_stops_accepting_while_strangers_connect_without_pause() {
    let db = Upstream::start("db").await;
    let world = world(&[&db]);
    let mut gateway = world.start().await;
    let old = world
        .identity("alice")
        .visit(gateway.address, "db")
        .await
        .unwrap();
    let first = gateway.process();
    let flood = Flood::begin(gateway.address).await;

    gateway.upgrade(&[]).await.unwrap();

    // It has closed all of its listeners, while the strangers go on.
    until(async || (listeners(first) == 0).then_some(())).await;
    leave(old).await;
    flood.end().await;
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
