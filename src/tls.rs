//! TLS: the certificate the server shows, and the one it may ask for.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, ensure};
use runtime::{CancellationToken, config::Tls};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

/// Crates below bring another provider of cryptography beside ours, and who does not say which one it wants would panic.
pub fn choose_provider() {
    // Refused only where one was chosen already.
    let _ = ring::default_provider().install_default();
}

/// How often the files are looked at for a newer certificate.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The certificate of this server, read again when its files change.
pub struct Certificates {
    files: Files,
    acceptor: RwLock<TlsAcceptor>,
}

#[derive(Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl Certificates {
    /// `None` where no certificate is set.
    ///
    /// # Errors
    /// A key without certificate or the other way round, and files that cannot be read or do not belong together.
    pub fn open(settings: &Tls) -> anyhow::Result<Option<Self>> {
        let files = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => {
                Files { certificate: certificate.clone(), key: key.clone(), client_ca: settings.client_ca.clone() }
            }
            (None, None) => {
                ensure!(settings.client_ca.is_none(), "tls.client_ca is set: set tls.certificate and tls.key, too");
                return Ok(None);
            }
            _ => anyhow::bail!("tls.certificate and tls.key go together: set both, or neither"),
        };
        let acceptor = RwLock::new(files.acceptor()?);
        Ok(Some(Self { files, acceptor }))
    }

    /// What speaks TLS with the next connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files again whenever one changes. Files that do not fit leave the certificate as it is.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut seen = self.files.changed_at();
        while tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
            let now = self.files.changed_at();
            if now == seen {
                continue;
            }
            seen = now;
            match self.files.acceptor() {
                Ok(fresh) => {
                    *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    tracing::info!("the TLS certificate was read again");
                }
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "the new TLS certificate does not fit; the old one stays");
                }
            }
        }
    }
}

impl Files {
    fn changed_at(&self) -> Vec<Option<SystemTime>> {
        let all = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        all.into_iter().flatten().map(|path| path.metadata().and_then(|about| about.modified()).ok()).collect()
    }

    fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain = read_chain(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .with_context(|| format!("could not read a private key from `{}`", self.key.display()))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .context("no version of TLS is left")?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in read_chain(path)? {
                    roots
                        .add(certificate)
                        .with_context(|| format!("a certificate in `{}` cannot sign others", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(
                    verifier.with_context(|| format!("`{}` holds nothing to check clients by", path.display()))?,
                )
            }
        };
        let mut config = builder.with_single_cert(chain, key).with_context(|| {
            format!("`{}` and `{}` do not fit together", self.certificate.display(), self.key.display())
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn read_chain(path: &PathBuf) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let what = || format!("could not read certificates from `{}`", path.display());
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(path).with_context(what)?.collect::<Result<_, _>>().with_context(what)?;
    ensure!(!chain.is_empty(), "`{}` holds no certificate", path.display());
    Ok(chain)
}
