//! The means of the tests: a world with upstreams, clients and a gateway process.

mod client;
mod flood;
mod gateway;
mod manager;
mod upstream;
mod wire;

use std::fmt::Write;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use certgen::{Authority, AuthoritySpec, Overwrite};
use tempfile::TempDir;

pub(crate) use client::{Connection, Identity, Refusal, Returning};
pub(crate) use flood::{Flood, STRANGERS};
pub(crate) use gateway::{Gateway, Record, destination_of, signal, source_of};
pub(crate) use manager::Manager;
pub(crate) use upstream::Upstream;
pub(crate) use wire::Wire;

/// Time limit after which a test counts as hung: 20 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory with a certificate authority, a gateway's certificate and the policy of a test.
#[derive(Debug)]
pub(crate) struct World {
    dir: TempDir,
    pub(crate) authority: Authority,
    gateway: String,
    groups: Vec<(String, String)>,
    clients: Vec<(String, String)>,
    tail: String,
}

impl World {
    /// Creates a world with an authority and a gateway's certificate, without groups and clients.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new(&AuthoritySpec::default()).unwrap();
        authority.save(dir.path(), Overwrite::Refuse).unwrap();
        let own = authority.server(&["localhost", "127.0.0.1"]).unwrap();
        own.save(dir.path(), "server", Overwrite::Refuse).unwrap();
        let gateway = "  tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}\n";
        Self {
            dir,
            authority,
            gateway: gateway.to_owned(),
            groups: Vec::new(),
            clients: Vec::new(),
            tail: String::new(),
        }
    }

    /// Creates a world with one group `db` of these upstreams, and one client `alice` who may reach
    /// it.
    pub(crate) fn with_db(upstreams: &[&Upstream]) -> Self {
        let mut world = Self::new();
        world.group("db", upstreams, "");
        world.client("alice", "groups: [db]");
        world
    }

    /// Adds a line to the gateway's section.
    pub(crate) fn gateway_line(&mut self, line: &str) {
        writeln!(self.gateway, "  {line}").unwrap();
    }

    /// Removes a line from the gateway's section.
    pub(crate) fn forget_gateway_line(&mut self, line: &str) {
        self.gateway = self.gateway.replace(&format!("  {line}\n"), "");
    }

    /// Lets the gateway use the revocation list `ca.crl`.
    pub(crate) fn honour_revocations(&mut self) {
        self.gateway = self.gateway.replace("ca.crt}", "ca.crt, crl: ca.crl}");
    }

    /// Adds or replaces a group. Its upstreams always count as healthy, unless `more` configures
    /// health checks.
    pub(crate) fn group(&mut self, name: &str, upstreams: &[&Upstream], more: &str) {
        let addresses: Vec<String> = upstreams
            .iter()
            .map(|upstream| format!("\"{}\"", upstream.address()))
            .collect();
        self.group_of(name, &addresses.join(", "), more);
    }

    /// Adds or replaces a group with its upstreams as they are written in a policy.
    pub(crate) fn group_of(&mut self, name: &str, upstreams: &str, more: &str) {
        let health = if more.contains("health:") {
            ""
        } else {
            "health: {check: off}, "
        };
        let line = format!("{{upstreams: [{upstreams}], {health}{more}}}");
        put(&mut self.groups, name, line);
    }

    /// Removes a group.
    pub(crate) fn remove_group(&mut self, name: &str) {
        self.groups.retain(|(known, _)| known != name);
    }

    /// Adds or replaces a client.
    pub(crate) fn client(&mut self, name: &str, rules: &str) {
        put(&mut self.clients, name, format!("{{{rules}}}"));
    }

    /// Removes a client.
    pub(crate) fn remove_client(&mut self, name: &str) {
        self.clients.retain(|(known, _)| known != name);
    }

    /// Appends text to the policy.
    pub(crate) fn tail(&mut self, text: &str) {
        self.tail.push_str(text);
    }

    /// Returns a path in the world's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the world's directory.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the policy's text with one more line in the gateway's section.
    pub(crate) fn policy_with(&self, line: &str) -> String {
        self.policy()
            .replacen("groups:\n", &format!("  {line}\ngroups:\n"), 1)
    }

    /// Changes the owner of all files of the world to a user, by name.
    pub(crate) fn give_to(&self, user: &str) {
        let given = std::process::Command::new("chown")
            .args(["-R", user])
            .arg(self.folder())
            .status();
        assert!(given.unwrap().success());
    }

    /// Returns the policy's text.
    pub(crate) fn policy(&self) -> String {
        let mut text = format!(
            "version: 1\ngateway:\n  listen: [\"127.0.0.1:0\"]\n{}groups:\n",
            self.gateway
        );
        for (name, line) in &self.groups {
            writeln!(text, "  {name}: {line}").unwrap();
        }
        if !self.clients.is_empty() {
            text.push_str("clients:\n");
        }
        for (name, line) in &self.clients {
            writeln!(text, "  {name}: {line}").unwrap();
        }
        text + &self.tail
    }

    /// Writes the policy as an editor does: to another file, which then replaces the old one.
    pub(crate) fn write_policy(&self) {
        self.write("policy.yaml", &self.policy());
    }

    /// Writes a file and moves it to its place, atomically.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let aside = self.path(&format!("{name}.aside"));
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.path(name)).unwrap();
    }

    /// Issues a certificate for a client of this name.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        Identity::of(&self.authority, &self.authority.client(name).unwrap())
    }

    /// Connects a new client of this name to `db`, which must serve it.
    pub(crate) async fn visit(&self, gateway: &Gateway, name: &str) -> Connection {
        let visited = self.identity(name).visit(gateway.address, "db").await;
        visited.unwrap_or_else(|refusal| panic!("{name} is refused: {refusal:?}"))
    }

    /// Writes the policy and starts the gateway.
    pub(crate) async fn start(&self) -> Gateway {
        self.write_policy();
        Gateway::start_as_it_is(self).await
    }
}

fn put(lines: &mut Vec<(String, String)>, name: &str, line: String) {
    match lines.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = line,
        None => lines.push((name.to_owned(), line)),
    }
}

/// Awaits a future for [`PATIENCE`] at most; the test fails after that.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens soon")
}

/// Calls `look` every 5 ms until it returns a value, for [`PATIENCE`] at most.
pub(crate) async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    soon(async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}
