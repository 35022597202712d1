//! New certificates: the authority's own, a server's, a client's.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use certgen::{
    Authority, AuthoritySpec, CA_STEM, CertgenError, Grant, LeafSpec, Overwrite, PolicyFileError,
    SERVER_STEM, check_file_stem, crl_path,
};
use clap::Args;
use time::{Duration, OffsetDateTime};

use crate::command::{Failure, announce, usage};

/// What stands for a group in what is printed, where none was named.
const ANY_GROUP: &str = "GROUP";

#[derive(Debug, Args)]
pub(crate) struct NewAuthority {
    /// The authority's name; "Portcullis Authority" and the beginning of its key's hash if absent.
    #[arg(long, visible_alias = "common-name")]
    name: Option<String>,
    /// How many days it lasts.
    #[arg(long, default_value_t = 3652, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace an authority; everything it issued becomes worthless.
    #[arg(long)]
    force: bool,
}

impl NewAuthority {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        let authority = Authority::new(&AuthoritySpec {
            common_name: self.name.clone(),
            not_after: OffsetDateTime::now_utc() + Duration::days(self.days.into()),
            ..AuthoritySpec::default()
        })?;
        authority.save(dir, overwrite(self.force))?;
        announce(dir, CA_STEM, out)?;
        if self.force {
            forget_revocations(dir, out)?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewServer {
    /// DNS names, wildcards and IP addresses; clients verify the one they ask for.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    leaf: NewLeaf,
}

impl NewServer {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        self.leaf
            .issue(dir, SERVER_STEM, LeafSpec::server(&names)?)?;
        Ok(announce(dir, SERVER_STEM, out)?)
    }
}

#[derive(Debug, Args)]
pub(crate) struct NewClient {
    /// The client's name, by which the policy knows it.
    #[arg(value_name = "CN")]
    name: String,
    /// A group that the client may reach.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Add the client to this policy file, keeping its comments and layout.
    #[arg(long, value_name = "POLICY", requires = "group")]
    add_to: Option<PathBuf>,
    #[command(flatten)]
    leaf: NewLeaf,
}

impl NewClient {
    pub(crate) fn run(&self, dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        check_file_stem(&self.name).map_err(|source| Failure::FileName {
            name: self.name.clone(),
            source,
        })?;
        // What would keep the policy from changing should be known before anything is issued.
        let grant = self.plan()?;
        self.leaf
            .issue(dir, &self.name, LeafSpec::client(&self.name))?;
        announce(dir, &self.name, out)?;
        let group = self.group.as_deref().unwrap_or(ANY_GROUP);
        match grant {
            Some((path, grant)) => {
                let addition = grant.addition();
                grant.write()?;
                usage::granted(path, addition, &self.name, out)?;
            }
            None => usage::fragment(&self.name, group, out)?,
        }
        Ok(usage::commands(dir, &self.name, group, out)?)
    }

    fn plan(&self) -> Result<Option<(&Path, Grant)>, PolicyFileError> {
        let (Some(path), Some(group)) = (&self.add_to, &self.group) else {
            return Ok(None);
        };
        Ok(Some((path, Grant::plan(path, &self.name, group)?)))
    }
}

#[derive(Debug, Args)]
struct NewLeaf {
    /// How many days it lasts; never longer than the authority.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace files that are already there.
    #[arg(long)]
    force: bool,
}

impl NewLeaf {
    fn issue(&self, dir: &Path, stem: &str, spec: LeafSpec) -> Result<(), CertgenError> {
        let authority = Authority::load(dir)?;
        authority.check_alive(OffsetDateTime::now_utc())?;
        let leaf = authority.issue(&spec.lasting(Duration::days(self.days.into())))?;
        leaf.save(dir, stem, overwrite(self.force))
    }
}

fn overwrite(force: bool) -> Overwrite {
    if force {
        Overwrite::Replace
    } else {
        Overwrite::Refuse
    }
}

/// Removes the list of an authority that is gone: the new one could not add to it.
fn forget_revocations(dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let path = crl_path(dir);
    match fs::remove_file(&path) {
        Ok(()) => Ok(writeln!(
            out,
            "removed {}, the old authority's list",
            path.display()
        )?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CertgenError::Io {
            action: "remove",
            path,
            source,
        }
        .into()),
    }
}
