//! TLS toward providers: certificate and key from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::IngressTls;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("{} holds no {what} in PEM form ({key})", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// The key that names the file.
        key: &'static str,
        /// What the parser said.
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not work together.
    #[error("the certificate and the key of ingress.tls do not work together: {0}")]
    Pair(#[from] rustls::Error),
    /// A certificate is none of an authority.
    #[error("a certificate of ingress.tls.client_ca_file cannot be used: {0}")]
    Authority(rustls::Error),
    /// The authorities cannot be used.
    #[error("the authorities of ingress.tls.client_ca_file cannot be used: {0}")]
    Clients(VerifierBuilderError),
}

/// Loads the files and offers HTTP/2 and HTTP/1.1.
pub(super) fn acceptor(config: &IngressTls) -> Result<TlsAcceptor, TlsError> {
    let chain = chain(&config.cert_file, "ingress.tls.cert_file")?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file).map_err(|source| TlsError::Pem {
        path: config.key_file.clone(),
        what: "private key",
        key: "ingress.tls.key_file",
        source,
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca_file {
        Some(path) => builder.with_client_cert_verifier(clients(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut server = builder.with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Takes clients that have a certificate of one of the authorities in the file.
fn clients(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut authorities = RootCertStore::empty();
    for certificate in chain(path, "ingress.tls.client_ca_file")? {
        authorities.add(certificate).map_err(TlsError::Authority)?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider)
        .build()
        .map_err(TlsError::Clients)
}

fn chain(path: &Path, key: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.to_owned(), what: "certificate", key, source };
    let chain = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(failed)?;
    if chain.is_empty() {
        return Err(failed(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(chain)
}
