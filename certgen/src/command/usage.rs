//! Instructions that are printed for a new client: the policy's line, and commands to paste.

use std::io::{self, Write};
use std::path::Path;

use certgen::{CA_STEM, GrantAddition, certificate_path, key_path};

/// Prints the change that the policy file got for one client.
pub(crate) fn granted(
    policy: &Path,
    addition: GrantAddition,
    client: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let policy = policy.display();
    match addition {
        GrantAddition::Client => writeln!(out, "added {client} to {policy}"),
        GrantAddition::Group => writeln!(out, "added the group to {client} in {policy}"),
        GrantAddition::Nothing => writeln!(out, "{client} already has that group in {policy}"),
    }
}

/// Prints the section that the policy needs for the clients.
pub(crate) fn fragment(clients: &[&str], group: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\nIn the policy:\n\n{}",
        certgen::fragment(clients, group).trim_end()
    )
}

/// Prints commands that connect as the client; the server name (SNI) is the group's.
pub(crate) fn commands(
    dir: &Path,
    client: &str,
    group: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = |path: &Path| shell(&path.display().to_string());
    let authority = path(&certificate_path(dir, CA_STEM));
    let certificate = path(&certificate_path(dir, client));
    let key = path(&key_path(dir, client));
    // A colon would end the file's name and start a password.
    let bundle = certificate_path(dir, client)
        .display()
        .to_string()
        .replace(':', "\\:");
    let bundle = shell(&bundle);
    let name = shell(group);
    let (target, url) = (
        shell(&format!("{group}:8443:HOST:8443")),
        shell(&format!("https://{group}:8443/")),
    );
    writeln!(out, "\nTo connect:\n")?;
    writeln!(
        out,
        "openssl s_client -connect HOST:8443 -servername {name} -tls1_3 \
         -CAfile {authority} -cert {certificate} -key {key}"
    )?;
    writeln!(
        out,
        "curl --tlsv1.3 --connect-to {target} --cacert {authority} \
         --cert {bundle} --key {key} {url}"
    )
}

/// Prints the paths of a new certificate and key.
pub(crate) fn announce(dir: &Path, stem: &str, out: &mut dyn Write) -> io::Result<()> {
    let (certificate, key) = (certificate_path(dir, stem), key_path(dir, stem));
    writeln!(out, "wrote {} and {}", certificate.display(), key.display())
}

/// Quotes a word so that a shell passes it on unchanged.
fn shell(word: &str) -> String {
    let safe =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | ':' | '+');
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_cannot_do_anything_in_a_shell() {
        assert_eq!(shell("certs/a-b.crt"), "certs/a-b.crt");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("$(x)'y"), r"'$(x)'\''y'");
    }
}
