//! TLS toward targets: whom they are believed to be, and who we say we are.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::ClientError;
use crate::config::TargetTls;

/// What targets without a `tls` of their own share: certificates are checked as the system checks them.
///
/// It is made when the first target needs it, so that a machine without any authorities serves the targets that need none.
#[derive(Clone, Debug, Default)]
pub struct SystemTls(Arc<OnceLock<Arc<ClientConfig>>>);

impl SystemTls {
    pub(super) fn get(&self) -> Result<Arc<ClientConfig>, ClientError> {
        if let Some(made) = self.0.get() {
            return Ok(Arc::clone(made));
        }
        let provider = provider();
        let verifier = Arc::new(system_verifier(&provider)?);
        let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(verifier);
        let made = Arc::new(with_alpn(builder.with_no_client_auth()));
        Ok(Arc::clone(self.0.get_or_init(|| made)))
    }
}

fn system_verifier(provider: &Arc<CryptoProvider>) -> Result<Verifier, ClientError> {
    Verifier::new(Arc::clone(provider)).map_err(ClientError::Authorities)
}

/// One target's own.
pub(super) fn own_tls(tls: &TargetTls) -> Result<Arc<ClientConfig>, ClientError> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match &tls.roots {
        _ if !tls.verify => Arc::new(Unchecked(Arc::clone(&provider))),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone())?;
            }
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?
        }
        None => Arc::new(system_verifier(&provider)?),
    };
    let builder = builder(provider)?.dangerous().with_custom_certificate_verifier(verifier);
    let config = match &tls.client {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(with_alpn(config)))
}

/// For a client that only speaks plain HTTP: nothing is trusted.
pub(super) fn no_tls() -> Result<Arc<ClientConfig>, ClientError> {
    let builder = builder(provider())?.with_root_certificates(RootCertStore::empty());
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// `verify = false`: any certificate will do, but the peer must hold its key.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
