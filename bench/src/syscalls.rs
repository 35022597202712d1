//! System calls of a connection, as strace(1) counts them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use clap::Args;
use tokio::runtime;

use crate::fallible::Fallible;
use crate::load::Client;
use crate::peers::{Peer, Place, Running, free_address};
use crate::{certs, upstream};

/// Number of connections by which the larger count exceeds the smaller one. The difference of the
/// two counts has only calls that belong to connections.
const MORE: u32 = 200;
/// Number of connections of the smaller count.
const FEWER: u32 = 100;
/// Largest number of attempts. On a busy machine connections take longer, so that each one gets a
/// larger part of the periodic calls.
const ATTEMPTS: u32 = 5;

/// Arguments of `bench syscalls`.
#[derive(Debug, Args)]
pub(crate) struct Syscalls {
    /// Path of the portcullis program
    portcullis: PathBuf,
    /// Fail if a connection has more system calls than this
    #[arg(long)]
    most: Option<f64>,
}

/// Calls by name.
type Counts = BTreeMap<String, f64>;

/// Counts the gateway's system calls for connections that come one after another, each with a whole
/// handshake and one byte there and back. Fails if there are more than may be.
pub(crate) fn run(wanted: &Syscalls) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    certs::write(folder.path())?;
    let upstream = free_address()?;
    std::thread::spawn(move || upstream::run(upstream));
    let gateway = Peer::Portcullis {
        binary: wanted.portcullis.canonicalize()?,
        name: "portcullis".to_owned(),
    };
    let place = Place {
        folder: folder.path(),
        upstream,
        cores: ("0", 1),
    };
    let gateway = gateway.start(&place)?;
    let client = Client::new(folder.path(), gateway.address)?;
    // The first connections cause calls that later ones do not.
    visit(&client, FEWER)?;
    let most = wanted.most.unwrap_or(f64::INFINITY);
    let mut all = f64::INFINITY;
    for _ in 0..ATTEMPTS {
        let fewer = counted(&gateway, &client, FEWER, folder.path())?;
        let more = counted(&gateway, &client, FEWER + MORE, folder.path())?;
        all = print_difference(&fewer, &more);
        if all <= most {
            return Ok(());
        }
    }
    Err(format!("a connection has {all:.1} system calls; at most {most} were expected").into())
}

/// Prints the calls of one connection. Returns their sum.
fn print_difference(fewer: &Counts, more: &Counts) -> f64 {
    let each = more.iter().map(|(name, calls)| {
        let calls = calls - fewer.get(name).unwrap_or(&0.0);
        (calls / f64::from(MORE), name.as_str())
    });
    let mut each: Vec<(f64, &str)> = each.collect();
    each.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    for (calls, name) in &each {
        println!("{name:<16} {calls:>6.2}");
    }
    let all = each.iter().map(|(calls, _)| calls).sum();
    println!("{:<16} {all:>6.2}", "all");
    all
}

/// Counts the gateway's calls while `visits` clients connect, one after another.
fn counted(gateway: &Running, client: &Client, visits: u32, folder: &Path) -> Fallible<Counts> {
    let file = folder.join("calls");
    let mut strace = attach(gateway.id(), &file)?;
    visit(client, visits)?;
    let id = strace.id().to_string();
    Command::new("kill").args(["-INT", &id]).status()?;
    strace.wait()?;
    let counts = counts(&fs::read_to_string(&file)?)?;
    fs::remove_file(file)?;
    let accepted = counts.get("accept4").copied().unwrap_or(0.0);
    if accepted < f64::from(visits) {
        let seen = format!("strace has seen {accepted} calls of accept4 for {visits} connections");
        return Err(seen.into());
    }
    Ok(counts)
}

/// Attaches strace to a process and all its threads. It counts from when this returns.
fn attach(process: u32, file: &Path) -> Fallible<Child> {
    let mut strace = Command::new("strace")
        .args([
            "-f",
            "-c",
            "-U",
            "name,calls",
            "-p",
            &process.to_string(),
            "-o",
        ])
        .arg(file)
        .stderr(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(stderr) = &mut strace.stderr {
        // It stays open: strace ends when it cannot say more.
        BufReader::new(stderr).read_line(&mut said)?;
    }
    if said.contains("attached") {
        Ok(strace)
    } else {
        strace.wait()?;
        Err(format!("strace does not attach (it may need root): {said}").into())
    }
}

/// Reads strace's table: a name and its calls on each line between rules, and a total.
fn counts(table: &str) -> Fallible<Counts> {
    let lines = table.lines().map(str::split_whitespace);
    let mut counts = Counts::new();
    for mut words in lines {
        if let (Some(name), Some(calls)) = (words.next(), words.next())
            && let Ok(calls) = calls.parse()
            && name != "total"
        {
            counts.insert(name.to_owned(), calls);
        }
    }
    if counts.is_empty() {
        return Err("strace counted nothing".into());
    }
    Ok(counts)
}

fn visit(client: &Client, visits: u32) -> Fallible<()> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for _ in 0..visits {
            client.visit_to_the_end().await?;
        }
        Ok(())
    })
}
