//! On which addresses the server listens, and TLS.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};

use crate::{
    Guarded, start,
    support::{MILLPOND, eventually, millpond},
    text,
};

#[test]
fn an_address_of_the_network_needs_tokens_and_tls_or_plain_words() {
    let data = tempfile::tempdir().expect("a directory");
    let dir = data.path().to_str().expect("UTF-8");
    let up = |settings: &[&str]| {
        let mut args = vec!["up", "--listen", "0.0.0.0:0", "--data-dir", dir];
        args.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        millpond(&args)
    };
    for (settings, why) in [
        (&[][..], "access.required=true"),
        (&["access.required=true"], "tls.certificate"),
        (&["access.open_to_network=true"], "tls.certificate"),
        (&["tls.plain_to_network=true"], "access.required=true"),
    ] {
        let output = up(settings);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why) && said.lines().count() == 1, "{settings:?}: {said}");
    }
    let server = crate::support::Server::start_with(
        data.path(),
        &["--set", "server.listen=0.0.0.0:0", "--set", "access.required=true", "--set", "tls.plain_to_network=true"],
    );
    assert_eq!(server.stop(), Some(0));
}

/// A certificate authority of the test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("lawful");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a name, and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &self.issuer).expect("signed").pem(), key.serialize_pem())
    }

    /// The certificate of the server, in files.
    fn equip(&self, dir: &Path) -> [PathBuf; 3] {
        let (certificate, key) = self.sign("127.0.0.1");
        let files = ["server.pem", "server.key", "ca.pem"].map(|name| dir.join(name));
        for (file, text) in files.iter().zip([&certificate, &key, &self.pem]) {
            std::fs::write(file, text).expect("written");
        }
        files
    }
}

fn flags(files: &[PathBuf; 3]) -> [String; 4] {
    let [certificate, key, _] = files.each_ref().map(|file| file.display().to_string());
    ["--set".into(), format!("tls.certificate={certificate}"), "--set".into(), format!("tls.key={key}")]
}

/// Asks for `/healthz` trusting `authority`, showing a certificate if there is one.
fn knock(url: &str, authority: &Authority, shown: Option<&(String, String)>) -> Result<u16, ureq::Error> {
    let root = Certificate::from_pem(authority.pem.as_bytes()).expect("a certificate");
    let shown = shown.map(|(certificate, key)| {
        let certificate = Certificate::from_pem(certificate.as_bytes()).expect("a certificate");
        ClientCert::new_with_certs(&[certificate], PrivateKey::from_pem(key.as_bytes()).expect("a key"))
    });
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[root])).client_cert(shown).build();
    let agent: Agent = Agent::config_builder().tls_config(tls).build().into();
    agent.get(format!("{url}/healthz")).call().map(|response| response.status().as_u16())
}

#[test]
fn tls_is_spoken_the_certificate_is_read_again_and_plain_text_is_not_taken() {
    let (ours, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("a directory");
    let files = ours.equip(dir.path());
    let flags = flags(&files);
    let guarded = Guarded::with(&flags.each_ref().map(String::as_str));
    let url = guarded.server.url.clone();
    assert!(url.starts_with("https://"));
    assert_eq!(knock(&url, &ours, None).expect("trusted"), 200);
    assert!(knock(&url, &other, None).is_err(), "a certificate by somebody else is not trusted");
    let plain = ureq::get(url.replacen("https", "http", 1)).call();
    assert!(plain.is_err(), "{plain:?}");

    let whoami = |ca: &Path| {
        let mut command = Command::new(MILLPOND);
        command.args(["tokens", "whoami"]).env("MILLPOND_URL", &url).env("MILLPOND_CA", ca);
        command.env("MILLPOND_TOKEN", &guarded.root).output().expect("the binary starts")
    };
    let output = whoami(&files[2]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = whoami(&dir.path().join("nothing.pem"));
    assert!(text(&output.stderr).contains("could not read certificates"));
    let strange = dir.path().join("strange.pem");
    std::fs::write(&strange, &other.pem).expect("written");
    let why = text(&whoami(&strange).stderr);
    assert!(why.contains("certificate") && why.contains("--ca") && why.lines().count() == 1, "{why}");

    // A key that does not belong to the certificate changes nothing; a new pair does.
    std::fs::write(&files[1], other.sign("127.0.0.1").1).expect("written");
    let fresh = other.sign("127.0.0.1");
    std::fs::write(&files[0], &fresh.0).expect("written");
    std::fs::write(&files[1], &fresh.1).expect("written");
    eventually("the new certificate is shown", || knock(&url, &other, None).ok());
    assert!(knock(&url, &ours, None).is_err());
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    let (ours, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().expect("a directory");
    let files = ours.equip(dir.path());
    let mut flags = flags(&files).to_vec();
    flags.extend(["--set".to_owned(), format!("tls.client_ca={}", files[2].display())]);
    let data = tempfile::tempdir().expect("a directory");
    let server = start(data.path(), &flags.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(knock(&server.url, &ours, None).is_err(), "no certificate");
    assert!(knock(&server.url, &ours, Some(&other.sign("ann"))).is_err(), "one by somebody else");
    assert_eq!(knock(&server.url, &ours, Some(&ours.sign("ann"))).expect("known"), 200);
}

#[test]
fn settings_of_tls_that_do_not_fit_are_refused_before_anything_starts() {
    let ours = Authority::new();
    let dir = tempfile::tempdir().expect("a directory");
    let [certificate, key, ca] = ours.equip(dir.path());
    std::fs::write(dir.path().join("other.key"), Authority::new().sign("x").1).expect("written");
    let shown = |path: &Path| path.display().to_string();
    for (settings, why) in [
        (vec![format!("tls.certificate={}", shown(&certificate))], "go together"),
        (vec![format!("tls.client_ca={}", shown(&ca))], "set tls.certificate"),
        (
            vec![format!("tls.certificate={}", shown(&certificate)), "tls.key=/nowhere/key.pem".to_owned()],
            "could not read a private key",
        ),
        (
            vec![
                format!("tls.certificate={}", shown(&certificate)),
                format!("tls.key={}", shown(&dir.path().join("other.key"))),
            ],
            "do not fit together",
        ),
        (vec![format!("tls.certificate={}", shown(&key)), format!("tls.key={}", shown(&key))], "holds no certificate"),
    ] {
        let mut args = vec!["up", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().expect("UTF-8")];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
        let output = millpond(&args);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(why) && said.lines().count() == 1, "{settings:?}: {said}");
    }
}
