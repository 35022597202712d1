//! New certificates: the authority's own, a server's, a client's.

use std::io::Write;
use std::path::{Path, PathBuf};

use certgen::{
    Authority, AuthoritySpec, CA_STEM, CertgenError, Directory, Grant, LeafSpec, Overwrite,
    PolicyFileError, SERVER_STEM, check_file_stem, crl_path,
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
        let directory = Directory::lock(dir)?;
        let had_list = self.force && crl_path(dir).exists();
        directory.create(&authority, overwrite(self.force))?;
        announce(dir, CA_STEM, out)?;
        if had_list {
            let list = crl_path(dir);
            writeln!(out, "removed {}, the old authority's list", list.display())?;
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
        let leaf = LeafSpec::server(&names)?;
        self.leaf.issue(&Directory::lock(dir)?, SERVER_STEM, leaf)?;
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
        let directory = Directory::lock(dir)?;
        // What would keep the policy from changing should be known before anything is issued.
        let grant = self.plan()?;
        self.leaf
            .issue(&directory, &self.name, LeafSpec::client(&self.name))?;
        announce(dir, &self.name, out)?;
        let group = self.group.as_deref().unwrap_or(ANY_GROUP);
        match grant {
            Some((path, grant)) => {
                let addition = grant.additions()[0];
                grant.write()?;
                usage::granted(path, addition, &self.name, out)?;
            }
            None => usage::fragment(&[&self.name], group, out)?,
        }
        Ok(usage::commands(dir, &self.name, group, out)?)
    }

    fn plan(&self) -> Result<Option<(&Path, Grant)>, PolicyFileError> {
        let (Some(path), Some(group)) = (&self.add_to, &self.group) else {
            return Ok(None);
        };
        Ok(Some((path, Grant::plan(path, &[&self.name], group)?)))
    }
}

#[derive(Debug, Args)]
struct NewLeaf {
    /// How many days it lasts; never longer than the authority.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace files that are already there; the index keeps the serials of the old ones.
    #[arg(long)]
    force: bool,
}

impl NewLeaf {
    fn issue(&self, directory: &Directory, stem: &str, spec: LeafSpec) -> Result<(), CertgenError> {
        let authority = directory.authority()?;
        authority.check_alive(OffsetDateTime::now_utc())?;
        let spec = spec.lasting(Duration::days(self.days.into()));
        let leaves = [(stem.to_owned(), spec)];
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
