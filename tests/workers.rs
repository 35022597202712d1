//! Workers: as many as the policy says, on the processors that it says.

use std::collections::BTreeMap;
use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::Command;

use crate::harness::{Gateway, Upstream, World, until};

/// The processors of each worker of a gateway, by its name, as the kernel writes them
/// (`proc_pid_status(5)`).
fn of_workers(gateway: &Gateway) -> BTreeMap<String, String> {
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.process())).unwrap();
    let threads = threads.filter_map(|thread| {
        let folder = thread.unwrap().path();
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let mut lines = status.lines();
        let processors = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let name = name.trim().strip_prefix("worker-")?;
        Some((name.to_owned(), processors.trim().to_owned()))
    });
    threads.collect()
}

/// Waits until the workers of a gateway, each of which names itself when it starts, are these.
async fn are(gateway: &Gateway, expected: &BTreeMap<String, String>) {
    until(async || (of_workers(gateway) == *expected).then_some(())).await;
}

/// Workers on these processors, one after another.
fn on(processors: impl IntoIterator<Item = impl ToString>) -> BTreeMap<String, String> {
    let each = processors.into_iter().enumerate();
    each.map(|(worker, processor)| (worker.to_string(), processor.to_string()))
        .collect()
}

/// What the whole process may use, as the kernel writes it.
fn of_process(gateway: &Gateway) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process())).unwrap();
    let mut lines = status.lines();
    let processors = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    processors.unwrap().trim().to_owned()
}

/// A gateway whose command line says nothing of workers, and its policy this.
async fn with(line: &str) -> (World, Upstream, Gateway) {
    let upstream = Upstream::start("a").await;
    let mut world = World::with_db(&[&upstream]);
    world.gateway_line(line);
    world.write_policy();
    let gateway = Gateway::start_with(&world, Command::new("env"), &[]).await;
    (world, upstream, gateway)
}

#[tokio::test]
async fn there_are_as_many_workers_as_the_policy_says_unless_the_command_line_does_on_all_processors()
 {
    let (mut world, _upstream, gateway) = with("workers: 3").await;
    are(&gateway, &on(vec![of_process(&gateway); 3])).await;
    let mut said = Gateway::start_by(&world, Command::new("env"), 1).await;
    are(&said, &on([of_process(&said)])).await;
    world.forget_gateway_line("workers: 3");
    world.gateway_line("workers: {count: 3, affinity: on}");
    world.write_policy();
    said.logged("`workers` applies at the next start or upgrade")
        .await;
    are(&said, &on([of_process(&said)])).await;
}

#[tokio::test]
async fn a_pinned_worker_stays_on_one_of_the_processors_that_the_process_may_use() {
    let allowed = sched_getaffinity(None).unwrap();
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&processor| allowed.is_set(processor))
        .collect();
    let workers = all.len() + 1;
    let pinned = format!("workers: {{count: {workers}, affinity: on}}");
    let expected: Vec<usize> = all.iter().cycle().take(workers).copied().collect();
    let (world, _upstream, gateway) = with(&pinned).await;
    are(&gateway, &on(expected)).await;
    world.visit(&gateway, "alice").await;

    // What this thread may use, its children may.
    let last = *all.last().unwrap();
    let mut only = CpuSet::new();
    only.set(last);
    sched_setaffinity(None, &only).unwrap();
    let (_world, _upstream, narrow) = with(&pinned).await;
    sched_setaffinity(None, &allowed).unwrap();
    are(&narrow, &on(vec![last; workers])).await;
}
