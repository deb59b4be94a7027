//! TLS toward a target: its files are read once, when the configuration is loaded, and held as what they are.

use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::mistake::Findings;
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{ClientCertificate, TargetTls};

/// Most certificates in one file: the authorities of a whole organisation are fewer.
const MAX_CERTIFICATES: usize = 1_000;

/// `None` only after a mistake was noted.
pub(super) fn tls(
    raw: &raw::TargetTls,
    url: Option<&str>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<TargetTls> {
    if url.is_some_and(|url| url.to_ascii_lowercase().starts_with("http:")) {
        findings.mistake(at, "the URL is http, without TLS", "write https://, or leave `tls` out");
    }
    let verify = raw.verify?;
    if !verify && raw.ca_file.is_some() {
        let problem = "authorities mean nothing when the certificate is not checked";
        findings.mistake(&at.key("ca_file"), problem, "leave out `ca_file`, or `verify = false`");
    } else if !verify {
        let sentence = "the target's certificate is not checked: whoever is on the way can read and \
                        change what is sent; `ca_file` trusts a certificate of your own";
        findings.warning(&at.key("verify"), sentence);
    }
    let roots = match &raw.ca_file {
        Some(path) => Some(certificates(path, &at.key("ca_file"), findings)?),
        None => None,
    };
    let client = match (&raw.cert_file, &raw.key_file) {
        (Some(chain), Some(key)) => Some(client(chain, key, at, findings)?),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let remedy = "write both `cert_file` and `key_file`";
            findings.mistake(at, "a client certificate is a chain and its key", remedy);
            None
        }
    };
    Some(TargetTls { verify, roots, client })
}

fn client(
    chain: &str,
    key: &str,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<ClientCertificate> {
    let chain = certificates(chain, &at.key("cert_file"), findings);
    let at = at.key("key_file");
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| refused(Path::new(key), "private key", &error, &at, findings))
        .ok();
    chain.zip(key).map(|(chain, key)| ClientCertificate { chain, key: key.into() })
}

fn certificates(
    path: &str,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(|all| all.take(MAX_CERTIFICATES).collect::<Result<Vec<_>, _>>());
    match read {
        Ok(all) if !all.is_empty() => Some(all),
        Ok(_) => {
            let none = rustls::pki_types::pem::Error::NoItemsFound;
            refused(Path::new(path), "certificate", &none, at, findings);
            None
        }
        Err(error) => {
            refused(Path::new(path), "certificate", &error, at, findings);
            None
        }
    }
}

fn refused(
    path: &Path,
    what: &str,
    error: &rustls::pki_types::pem::Error,
    at: &KeyPath,
    findings: &mut Findings,
) {
    let problem = if let rustls::pki_types::pem::Error::Io(error) = error {
        format!("cannot read {}: {error}", path.display())
    } else {
        // What is in the file may be a key; the parser's words could quote it.
        format!("{} holds no {what} in PEM form", path.display())
    };
    findings.mistake(
        at,
        problem,
        format!("name a file with a {what}, readable for everhook's user"),
    );
}
