//! Commands that make new certificates: `ca`, `server` and `client`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use certgen::{
    Authority, AuthorityDirectory, AuthoritySpec, CA_STEM, CertgenError, LeafSpec, Overwrite,
    SERVER_STEM, check_file_stem, crl_path,
};
use clap::Args;
use time::{Duration, OffsetDateTime};

use crate::command::error::CommandError;
use crate::command::usage::{self, announce};

/// Placeholder for the group in printed examples if `--group` is absent.
const ANY_GROUP: &str = "GROUP";

#[derive(Debug, Args)]
pub(crate) struct NewAuthority {
    /// Name of the authority [default: "Portcullis Authority" and the first digits of its key's
    /// hash].
    #[arg(long, visible_alias = "common-name")]
    name: Option<String>,
    /// Validity in days.
    #[arg(long, default_value_t = 3652, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace an authority that exists; all certificates that it issued become invalid.
    #[arg(long)]
    force: bool,
}

impl NewAuthority {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), CommandError> {
        let authority = Authority::new(&AuthoritySpec {
            common_name: self.name.clone(),
            not_after: OffsetDateTime::now_utc() + Duration::days(self.days.into()),
            ..AuthoritySpec::default()
        })?;
        let directory = AuthorityDirectory::lock_new(dir)?;
        let had_list = self.force && crl_path(dir).exists();
        directory.create(&authority, overwrite(self.force))?;
        announce(dir, CA_STEM, out)?;
        if had_list {
            let list = crl_path(dir);
            writeln!(
                out,
                "removed {}, the old authority's revocation list",
                list.display()
            )?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewServer {
    /// DNS names, wildcards and IP addresses of the server; a client verifies the one that it asks
    /// for.
    #[arg(required = true)]
    names: Vec<String>,
    /// Name of the two files, without .crt and .key.
    #[arg(long, value_name = "FILE", visible_alias = "out", default_value = SERVER_STEM)]
    name: String,
    #[command(flatten)]
    leaf: NewLeaf,
}

impl NewServer {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), CommandError> {
        if self.name != SERVER_STEM {
            check_stem(&self.name)?;
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let leaf = (self.name.clone(), LeafSpec::server(&names)?);
        self.leaf
            .issue(&AuthorityDirectory::lock(dir)?, vec![leaf])?;
        Ok(announce(dir, &self.name, out)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewClients {
    /// Names of the clients, as the policy has them.
    #[arg(value_name = "CN", required_unless_present = "from")]
    names: Vec<String>,
    /// Read more names from this file, one on each line; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Group that the clients may reach, for the commands that are printed.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Removed; its only use is the error, which names the command that took its place.
    #[arg(long, value_name = "POLICY", hide = true, value_parser = added_elsewhere)]
    add_to: Option<Infallible>,
    #[command(flatten)]
    leaf: NewLeaf,
}

impl NewClients {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), CommandError> {
        let names = self.all_names()?;
        let clients: Vec<&str> = names.iter().map(String::as_str).collect();
        let directory = AuthorityDirectory::lock(dir)?;
        let leaves = names
            .iter()
            .map(|name| (name.clone(), LeafSpec::client(name)));
        self.leaf.issue(&directory, leaves.collect())?;
        for client in &clients {
            announce(dir, client, out)?;
        }
        let group = self.group.as_deref().unwrap_or(ANY_GROUP);
        usage::grant(&clients, group, out)?;
        if let [client] = clients.as_slice() {
            usage::commands(dir, client, group, out)?;
        }
        Ok(())
    }

    /// Collects the names of the command line and of the `--from` file; a duplicate is an error.
    fn all_names(&self) -> Result<Vec<String>, CommandError> {
        let text = match &self.from {
            Some(path) => text_of(path)?,
            None => String::new(),
        };
        let lines = text.lines().filter(|line| !line.is_empty());
        let names: Vec<String> = self
            .names
            .iter()
            .cloned()
            .chain(lines.map(str::to_owned))
            .collect();
        let mut seen = BTreeSet::new();
        for name in &names {
            check_stem(name)?;
            if !seen.insert(name) {
                return Err(CommandError::Twice(name.clone()));
            }
        }
        if names.is_empty() {
            return Err(CommandError::NoClient);
        }
        Ok(names)
    }
}

/// Refuses every value of `--add-to`.
fn added_elsewhere(policy: &str) -> Result<Infallible, String> {
    Err(format!(
        "certgen does not edit policies; leave `--add-to` out, and then run \
         `portcullis grant CLIENT GROUP --policy {}`",
        usage::shell(policy)
    ))
}

/// Checks that files can be named after a client or server.
fn check_stem(name: &str) -> Result<(), CommandError> {
    check_file_stem(name).map_err(|source| CommandError::FileName {
        name: name.to_owned(),
        source,
    })
}

/// Reads the text of a file, or of the standard input if the path is `-`.
fn text_of(path: &Path) -> Result<String, CertgenError> {
    if path == Path::new("-") {
        certgen::read_text(io::stdin().lock(), Path::new("the standard input"))
    } else {
        certgen::read_text(
            fs::File::open(path).map_err(|source| CertgenError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            })?,
            path,
        )
    }
}

#[derive(Debug, Args)]
struct NewLeaf {
    /// Validity in days; it ends with the authority's at the latest.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace files that exist; the index keeps the serials of the old certificates.
    #[arg(long)]
    force: bool,
}

impl NewLeaf {
    fn issue(
        &self,
        directory: &AuthorityDirectory,
        leaves: Vec<(String, LeafSpec)>,
    ) -> Result<(), CertgenError> {
        let authority = directory.authority()?;
        authority.check_alive(OffsetDateTime::now_utc())?;
        let length = Duration::days(self.days.into());
        let leaves: Vec<_> = leaves
            .into_iter()
            .map(|(stem, spec)| (stem, spec.lasting(length)))
            .collect();
        directory.issue(&authority, &leaves, overwrite(self.force))?;
        Ok(())
    }
}

fn overwrite(force: bool) -> Overwrite {
    if force {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    }
}
