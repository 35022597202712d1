//! The run: who is measured, in which order, and what is taken down.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use clap::ValueEnum;

use crate::fallible::Fallible;
use crate::load::{Mode, Outcome};
use crate::peers::{Peer, Place, Running, free_address};
use crate::plan::{Measure, Plan};
use crate::report::{Metric, Report};
use crate::{certs, usage};

const GIBIBYTE: f64 = (1 << 30) as f64;

const HERD: usize = 5000;
const STALLED: usize = 2000;

/// A run: the processes that do not change, and the cores of each kind.
struct Run<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    upstream: SocketAddr,
    gateway_cores: String,
    load_cores: String,
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Measures all that the plan wants, and prints it.
pub(crate) fn run(plan: &Plan) -> Fallible<()> {
    let folder = tempfile::tempdir()?;
    certs::write(folder.path())?;
    let processors = std::thread::available_parallelism()?.get();
    if processors < plan.cores + 1 {
        return Err(format!(
            "{processors} processors are too few for {} and the load",
            plan.cores
        )
        .into());
    }
    let range = |from: usize, to: usize| format!("{from}-{}", to - 1);
    let run = Run {
        plan,
        folder: folder.path(),
        upstream: free_address()?,
        gateway_cores: range(0, plan.cores),
        load_cores: range(plan.cores, processors),
    };
    let _upstream = run.start_upstream()?;
    let peers = run.peers()?;
    let mut report = Report::new(&peers, plan.cores);
    for peer in &peers {
        run.check(peer)?;
    }
    for &measure in Measure::value_variants() {
        if plan.only.is_empty() || plan.only.contains(&measure) {
            run.measure(measure, &peers, &mut report)?;
        }
    }
    println!("{report}");
    if let Some(file) = &plan.json {
        std::fs::write(file, report.json()?)?;
    }
    if let Some(file) = &plan.plot {
        std::fs::write(file, report.plot())?;
    }
    Ok(())
}

impl Run<'_> {
    fn place(&self) -> Place<'_> {
        Place {
            folder: self.folder,
            upstream: self.upstream,
            cores: (&self.gateway_cores, self.plan.cores),
        }
    }

    fn start_upstream(&self) -> Fallible<Killed> {
        let child = Command::new("taskset")
            .args(["-c", &self.load_cores])
            .arg(std::env::current_exe()?)
            .args(["upstream", &self.upstream.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Killed(child))
    }

    /// Whoever is there.
    fn peers(&self) -> Fallible<Vec<Peer>> {
        let binary = std::env::current_exe()?.with_file_name("portcullis");
        if !binary
            .parent()
            .is_some_and(|directory| directory.ends_with("dist"))
        {
            return Err("figures are of the profile that is shipped: run `cargo run --profile dist -p bench`".into());
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--profile", "dist", "--locked", "-p", "portcullis"])
            .status()?;
        if !built.success() {
            return Err("portcullis cannot be built".into());
        }
        let name = "portcullis".to_owned();
        let mut peers = vec![Peer::Portcullis { binary, name }];
        if let Some(former) = &self.plan.former {
            peers.push(Peer::Portcullis {
                binary: former.canonicalize()?,
                name: "former".to_owned(),
            });
        }
        peers.push(Peer::Yardstick);
        let is_there = |program: &str| {
            let version = Command::new(program).arg("-v").output();
            version.is_ok_and(|output| output.status.success())
        };
        if !self.plan.alone && is_there("haproxy") {
            peers.push(Peer::Haproxy);
        }
        if !self.plan.alone && is_there("nginx") {
            peers.push(Peer::Nginx);
        }
        if let Some(envoy) = self.plan.envoy.as_ref().filter(|_| !self.plan.alone) {
            let binary = envoy.canonicalize()?;
            peers.push(Peer::Envoy { binary });
        }
        Ok(peers)
    }

    /// Nobody is measured who lets clients in without a certificate, or by TLS 1.2.
    fn check(&self, peer: &Peer) -> Fallible<()> {
        let running = peer.start(&self.place())?;
        let outcome = self.load(&running, Mode::Handshakes, 1, 0.0)?;
        if outcome.failed > 0 {
            return Err(format!("{} does not serve a client", peer.name()).into());
        }
        let stranger = self.load(&running, Mode::Stranger, 1, 0.0)?;
        if stranger.failed == 0 {
            return Err(format!("{} lets strangers in", peer.name()).into());
        }
        let shown = |kind: &str| self.folder.join(format!("{}.{kind}", certs::CLIENT));
        let by_tls_1_2 = Command::new("openssl")
            .args(["s_client", "-tls1_2", "-servername", certs::SERVER])
            .args(["-connect", &running.address.to_string()])
            .arg("-cert")
            .arg(shown("crt"))
            .arg("-key")
            .arg(shown("key"))
            .stdin(Stdio::null())
            .output()?;
        if by_tls_1_2.status.success() {
            return Err(format!("{} speaks TLS 1.2", peer.name()).into());
        }
        progress(&format!(
            "{}: TLS 1.3 with client certificates only",
            peer.name()
        ));
        Ok(())
    }

    fn measure(&self, measure: Measure, peers: &[Peer], report: &mut Report) -> Fallible<()> {
        let mut all = peers.to_vec();
        if measure == Measure::LargePolicy {
            all.retain(|peer| matches!(peer, Peer::Portcullis { .. }));
            all.truncate(1);
            if let Some(Peer::Portcullis { binary, .. }) = all.first().cloned() {
                all.push(Peer::LargePolicy { binary });
            }
        }
        for round in 1..=self.plan.rounds {
            for peer in &all {
                progress(&format!(
                    "{measure:?} {round}/{} {}",
                    self.plan.rounds,
                    peer.name()
                ));
                let running = peer.start(&self.place())?;
                for (metric, value) in self.take(measure, &running)? {
                    report.add(metric, peer.name(), value);
                }
            }
        }
        Ok(())
    }

    fn take(&self, measure: Measure, running: &Running) -> Fallible<Vec<(Metric, f64)>> {
        use Measure as M;
        match measure {
            M::Handshakes | M::LargePolicy => self.handshakes(measure, running),
            M::Resumed => self.resumed(running),
            M::Ping1 | M::Ping64 | M::Rate => self.latency(measure, running),
            M::Up => self.stream(Mode::Up, (Metric::UpCpu, Metric::UpRate), running),
            M::Down => self.stream(Mode::Down, (Metric::DownCpu, Metric::DownRate), running),
            M::Both => self.stream(Mode::Both, (Metric::BothCpu, Metric::BothRate), running),
            M::Idle => {
                let each = self.held(running, Mode::Idle, self.plan.idle)?;
                Ok(vec![(Metric::IdleMemory, each)])
            }
            M::Silent => {
                let each = self.held(running, Mode::Silent, STALLED)?;
                Ok(vec![(Metric::SilentMemory, each)])
            }
            M::Stalled | M::Herd | M::Churn => self.crowds(measure, running),
        }
    }

    fn handshakes(&self, measure: Measure, running: &Running) -> Fallible<Vec<(Metric, f64)>> {
        // Without what the first connections cost.
        self.load(running, Mode::Handshakes, 16, 0.3)?;
        let (outcome, seconds) = self.used(running, Mode::Handshakes, 16)?;
        let each = seconds * 1e6 / outcome.operations as f64;
        if measure == Measure::LargePolicy {
            return Ok(vec![(Metric::LargePolicyCpu, each)]);
        }
        let rate = outcome.operations as f64 / outcome.seconds;
        Ok(vec![
            (Metric::HandshakeCpu, each),
            (Metric::HandshakeRate, rate),
        ])
    }

    fn resumed(&self, running: &Running) -> Fallible<Vec<(Metric, f64)>> {
        self.load(running, Mode::Resumed, 16, 0.3)?;
        let (outcome, seconds) = self.used(running, Mode::Resumed, 16)?;
        let all = outcome.operations as f64;
        Ok(vec![
            (Metric::ResumedCpu, seconds * 1e6 / all),
            (Metric::ResumedShare, outcome.resumed as f64 / all),
        ])
    }

    fn latency(&self, measure: Measure, running: &Running) -> Fallible<Vec<(Metric, f64)>> {
        if measure == Measure::Ping1 {
            let (outcome, _) = self.used(running, Mode::PingPong, 1)?;
            return Ok(vec![
                (Metric::Ping1P50, outcome.p50),
                (Metric::Ping1P99, outcome.p99),
            ]);
        }
        if measure == Measure::Rate {
            let (outcome, _) = self.used(running, Mode::Rate, 64)?;
            return Ok(vec![
                (Metric::RateP50, outcome.p50),
                (Metric::RateP99, outcome.p99),
            ]);
        }
        let (outcome, seconds) = self.used(running, Mode::PingPong, 64)?;
        let each = seconds * 1e6 / outcome.operations as f64;
        Ok(vec![
            (Metric::Ping64Cpu, each),
            (Metric::Ping64P50, outcome.p50),
            (Metric::Ping64P99, outcome.p99),
        ])
    }

    fn stream(
        &self,
        mode: Mode,
        (cpu, rate): (Metric, Metric),
        running: &Running,
    ) -> Fallible<Vec<(Metric, f64)>> {
        let (outcome, seconds) = self.used(running, mode, 8)?;
        let moved = outcome.bytes as f64 / GIBIBYTE;
        Ok(vec![
            (cpu, seconds / moved),
            (rate, moved / outcome.seconds),
        ])
    }

    fn crowds(&self, measure: Measure, running: &Running) -> Fallible<Vec<(Metric, f64)>> {
        if measure == Measure::Herd {
            let outcome = self.load(running, Mode::Herd, HERD, 0.0)?;
            return Ok(vec![
                (Metric::HerdSeconds, outcome.seconds),
                (Metric::HerdFailed, outcome.failed as f64),
            ]);
        }
        if measure == Measure::Churn {
            let (outcome, seconds) = self.used(running, Mode::Churn, 32)?;
            return Ok(vec![
                (Metric::ChurnCpu, seconds * 1e6 / outcome.operations as f64),
                (Metric::ChurnFailed, outcome.failed as f64),
            ]);
        }
        self.load(running, Mode::Handshakes, 4, 0.3)?;
        let (without, _) = self.used(running, Mode::Handshakes, 4)?;
        let (_holding, _) = self.hold(running, Mode::Silent, STALLED)?;
        let (with, _) = self.used(running, Mode::Handshakes, 4)?;
        Ok(vec![(Metric::StalledP99, with.p99 / without.p99)])
    }

    /// A load as long as the plan has it, and the processor time of the gateway meanwhile.
    fn used(&self, running: &Running, mode: Mode, connections: usize) -> Fallible<(Outcome, f64)> {
        let before = usage::processor_seconds(running.id());
        let outcome = self.load(running, mode, connections, self.plan.seconds)?;
        Ok((outcome, usage::processor_seconds(running.id()) - before))
    }

    fn load(
        &self,
        running: &Running,
        mode: Mode,
        connections: usize,
        seconds: f64,
    ) -> Fallible<Outcome> {
        let output = self
            .loader(running, mode, connections, seconds)?
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            return Err(format!(
                "the load failed: {}",
                String::from_utf8_lossy(&output.stderr)
            )
            .into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The memory that each of so many connections takes, in KiB.
    fn held(&self, running: &Running, mode: Mode, connections: usize) -> Fallible<f64> {
        self.load(running, Mode::Handshakes, 4, 0.3)?;
        let before = usage::memory(running.id());
        let (_holding, outcome) = self.hold(running, mode, connections)?;
        let after = usage::memory(running.id());
        Ok((after - before) / 1024.0 / outcome.operations as f64)
    }

    /// Opens connections that stay as long as what is returned does.
    fn hold(
        &self,
        running: &Running,
        mode: Mode,
        connections: usize,
    ) -> Fallible<(Killed, Outcome)> {
        let mut child = self
            .loader(running, mode, connections, 0.0)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let holding = Killed(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok((holding, serde_json::from_str(&line)?))
    }

    fn loader(
        &self,
        running: &Running,
        mode: Mode,
        connections: usize,
        seconds: f64,
    ) -> Fallible<Command> {
        let mode = mode.to_possible_value().ok_or("no such mode")?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", &self.load_cores])
            .arg(std::env::current_exe()?)
            .args(["load", mode.get_name(), &running.address.to_string()])
            .arg(self.folder)
            .args([connections.to_string(), seconds.to_string()]);
        Ok(command)
    }
}

/// What is being done goes to standard error: the report is all that is printed.
#[expect(clippy::print_stderr, reason = "progress of a run that takes minutes")]
fn progress(what: &str) {
    eprintln!("{what}");
}
