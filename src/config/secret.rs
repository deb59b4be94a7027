//! Secrets are named, not written: from a reference to its bytes.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::mistake::Findings;
use super::tree::KeyPath;
use crate::model::Secret;

/// Most bytes of one secret; a private key is far smaller.
const MAX_SECRET: u64 = 64 * 1024;

/// What would be right instead of a value.
pub(super) const REMEDY: &str =
    r#"write "file:/path", "env:NAME" or "credential:NAME"; for a first try "plain:text" works"#;

/// The scheme of a secret whose value stands in the reference itself.
pub(super) const PLAIN: &str = "plain:";

/// Whether a text names a secret rather than being a value of its own.
pub(super) fn is_reference(text: &str) -> bool {
    ["file:", "env:", "credential:", PLAIN].iter().any(|scheme| text.starts_with(scheme))
}

/// Where a secret is kept.
enum Reference<'a> {
    File(PathBuf),
    Variable(&'a str),
    Credential(&'a str),
    Plain(&'a str),
}

/// Reads the secret that a reference names. No mistake shows the reference: it may be the secret.
pub(super) fn resolve(text: &str, at: &KeyPath, findings: &mut Findings) -> Option<Secret> {
    let bytes = parse(text).and_then(|reference| match reference {
        Reference::File(path) => {
            warn_if_shared(&path, at, findings);
            read_file(&path)
        }
        Reference::Variable(name) => read_variable(name),
        Reference::Credential(name) => read_file(&credential(name)?),
        Reference::Plain(value) => {
            let sentence = "the secret stands in the configuration itself; \
                            keep it in a file and write \"file:/path\"";
            findings.warning(at, sentence);
            Ok(Zeroizing::new(value.as_bytes().to_vec()))
        }
    });
    match bytes {
        Ok(bytes) if bytes.is_empty() => {
            findings.mistake(at, "the secret is empty", "give it a value that cannot be guessed");
            None
        }
        Ok(bytes) if bytes.iter().all(u8::is_ascii_whitespace) => {
            let problem = "the secret is only white space";
            findings.mistake(at, problem, "give it a value that cannot be guessed");
            None
        }
        Ok(bytes) => {
            // Usually an `echo` or an editor too much; some providers do hand out such secrets.
            let edges = [bytes.first(), bytes.last()];
            if edges.into_iter().flatten().any(u8::is_ascii_whitespace) {
                findings.warning(at, "the secret begins or ends with white space");
            }
            Some(Secret::new(bytes.to_vec()))
        }
        Err((problem, remedy)) => {
            findings.mistake(at, problem, remedy);
            None
        }
    }
}

/// What is wrong, and the remedy.
type Trouble = (String, String);

fn parse(text: &str) -> Result<Reference<'_>, Trouble> {
    let trouble = |problem: &str| (problem.to_owned(), REMEDY.to_owned());
    let (scheme, rest) = text
        .split_once(':')
        .ok_or_else(|| trouble("this is a value, not a reference to a secret"))?;
    match scheme {
        "file" if rest.starts_with('/') => Ok(Reference::File(rest.into())),
        "file" => Err(trouble("the path of a secret's file must be absolute")),
        "env" | "credential" if rest.is_empty() => Err(trouble("the reference names nothing")),
        "env" => Ok(Reference::Variable(rest)),
        "credential" if rest.contains('/') || rest.starts_with('.') => {
            Err(trouble("a credential has a plain name, not a path"))
        }
        "credential" => Ok(Reference::Credential(rest)),
        "plain" => Ok(Reference::Plain(rest)),
        _ => Err(trouble("this is a value, not a reference to a secret")),
    }
}

fn read_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    use std::os::unix::ffi::OsStringExt as _;
    let value = std::env::var_os(name).ok_or_else(|| {
        (format!("the environment variable {name} is not set"), "set it, or mend the name".into())
    })?;
    Ok(Zeroizing::new(value.into_vec()))
}

fn credential(name: &str) -> Result<PathBuf, Trouble> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
        let remedy = format!("run under systemd with LoadCredential={name}:/path in the unit");
        ("$CREDENTIALS_DIRECTORY is not set, so there are no credentials".to_owned(), remedy)
    })?;
    Ok(Path::new(&directory).join(name))
}

/// Not asked of credentials: systemd guards those by the directory.
fn warn_if_shared(path: &Path, at: &KeyPath, findings: &mut Findings) {
    let shared = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o044 != 0);
    if shared {
        let shown = path.display();
        findings.warning(at, format!("{shown} can be read by other users; chmod 0400 it"));
    }
}

/// A file's content without one trailing newline.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        let remedy = "make the file readable for the user that runs everhook";
        (format!("cannot read {shown}: {error}"), remedy.to_owned())
    };
    // Asked before it is opened: opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err((format!("{shown} is not a regular file"), "name a regular file".into()));
    }
    let too_large =
        || (format!("{shown} is larger than 64 KiB"), "name a file with one secret".into());
    if metadata.len() > MAX_SECRET {
        return Err(too_large());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_SECRET + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_SECRET) {
        return Err(too_large());
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}
