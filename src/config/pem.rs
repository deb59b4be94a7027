//! Certificates and keys in files: read once, when the configuration is loaded, and held as what they are.

use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::mistake::Findings;
use super::tree::KeyPath;

/// Most certificates in one file: the authorities of a whole organisation are fewer.
const MAX_CERTIFICATES: usize = 1_000;

/// Why a file does not hold what it should. What is in it may be a key, so its words are not repeated.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// It can be read.
    #[error("{0} holds no {1} in PEM form")]
    NotPem(String, &'static str),
}

/// The certificates in a PEM file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(|all| all.take(MAX_CERTIFICATES).collect::<Result<Vec<_>, _>>())
        .and_then(|all| if all.is_empty() { Err(PemError::NoItemsFound) } else { Ok(all) });
    read.map_err(|error| unusable(path, "certificate", error))
}

/// The private key in a PEM file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Unusable> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(path, "private key", error))
}

fn unusable(path: &Path, what: &'static str, error: PemError) -> Unusable {
    let shown = path.display().to_string();
    if let PemError::Io(error) = error {
        return Unusable::Unreadable(shown, error);
    }
    Unusable::NotPem(shown, what)
}

/// Notes what is wrong with a file.
pub(super) fn noted<T>(
    read: Result<T, Unusable>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<T> {
    let remedy = match &read {
        Ok(_) => return read.ok(),
        Err(Unusable::Unreadable(..)) => {
            "make the file readable for the user that runs everhook".to_owned()
        }
        Err(Unusable::NotPem(_, what)) => {
            format!("name a file with -----BEGIN {}-----", what.to_ascii_uppercase())
        }
    };
    read.map_err(|error| findings.mistake(at, error.to_string(), remedy)).ok()
}
