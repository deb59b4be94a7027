//! Certificate, key and clients' authorities of the ingress: read, paired and made into what the listener serves with, so that a wrong
//! file is a mistake of the configuration and not of a daemon that already runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::config::IngressTls;
use crate::config::mistake::Findings;
use crate::config::pem::{certificates, noted, private_key};
use crate::config::raw;
use crate::config::tree::KeyPath;

/// Loads the files and offers HTTP/2 and HTTP/1.1.
pub(super) fn tls(raw: raw::Tls, at: &KeyPath, findings: &mut Findings) -> Option<IngressTls> {
    let (cert_at, key_at) = (at.key("cert_file"), at.key("key_file"));
    let chain = raw
        .cert_file
        .map(PathBuf::from)
        .and_then(|path| noted(certificates(&path), &cert_at, findings));
    let key = raw
        .key_file
        .map(PathBuf::from)
        .and_then(|path| noted(private_key(&path), &key_at, findings).map(|key| (key, path)));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match raw.client_ca_file.map(PathBuf::from) {
        Some(path) => clients(&path, &provider, &at.key("client_ca_file"), findings).map(Some),
        None => Some(None),
    };
    let (chain, (key, key_file)) = chain.zip(key)?;
    match server(chain, key, verifier?, provider) {
        Ok(server) => Some(IngressTls { server: Arc::new(server) }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let problem = format!("{} is not the key of the certificate", key_file.display());
            findings.mistake(&key_at, problem, "name the key that the certificate was made for");
            None
        }
        Err(error) => {
            let problem = format!("the certificate and the key cannot be used: {error}");
            findings.mistake(at, problem, "make the certificate and its key anew");
            None
        }
    }
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server)
}

/// Takes clients that have a certificate of one of the authorities in the file.
fn clients(
    path: &Path,
    provider: &Arc<CryptoProvider>,
    at: &KeyPath,
    findings: &mut Findings,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let read = noted(certificates(path), at, findings)?;
    let mut authorities = RootCertStore::empty();
    let added = read.into_iter().try_for_each(|certificate| authorities.add(certificate));
    let built = added.map_err(|error| error.to_string()).and_then(|()| {
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())
    });
    let wrong = |error| format!("the authorities in {} cannot be used: {error}", path.display());
    built
        .map_err(|error| {
            findings.mistake(at, wrong(error), "name a file with certificates of authorities");
        })
        .ok()
}
