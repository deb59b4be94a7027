//! TLS toward a target: its files are read once, when the configuration is loaded, and held as what they are.

use std::path::Path;

use crate::config::mistake::Findings;
use crate::config::pem::{certificates, noted, private_key};
use crate::config::raw;
use crate::config::tree::KeyPath;
use crate::config::{ClientCertificate, TargetTls};

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
        Some(path) => Some(noted(certificates(Path::new(path)), &at.key("ca_file"), findings)?),
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
    let chain = noted(certificates(Path::new(chain)), &at.key("cert_file"), findings);
    let key = noted(private_key(Path::new(key)), &at.key("key_file"), findings);
    chain.zip(key).map(|(chain, key)| ClientCertificate { chain, key: key.into() })
}
