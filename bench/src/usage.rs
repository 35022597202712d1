//! What a process and its children have used, from proc(5).

use std::fs;

/// The processor time of a process and its children so far, in seconds.
pub(crate) fn processor_seconds(process: u32) -> f64 {
    family(process)
        .into_iter()
        .flat_map(|process| fs::read_dir(format!("/proc/{process}/task")))
        .flatten()
        .flatten()
        .filter_map(|task| {
            let used = fs::read_to_string(task.path().join("schedstat")).ok()?;
            used.split(' ').next()?.parse::<f64>().ok()
        })
        .sum::<f64>()
        / 1e9
}

/// The memory of a process and its children, each page by its share, in bytes.
pub(crate) fn memory(process: u32) -> f64 {
    let kilobytes = family(process).into_iter().filter_map(|process| {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    });
    kilobytes.sum::<f64>() * 1024.0
}

fn family(process: u32) -> Vec<u32> {
    let mut all = vec![process];
    let mut next = 0;
    while let Some(&parent) = all.get(next) {
        let children = format!("/proc/{parent}/task/{parent}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        all.extend(
            children
                .split_whitespace()
                .filter_map(|child| child.parse::<u32>().ok()),
        );
        next += 1;
    }
    all
}
