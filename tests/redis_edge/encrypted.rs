//! TLS: the certificate is checked, or there is no connection.

use crate::{address, entry, offer, opened, refused};
use highwater::testkit::RedisServer;
use highwater::tier::SharedTier;
use std::path::Path;
use std::process::Command;

fn openssl(folder: &Path, args: &str) {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A private authority with a certificate for `localhost`, in PEM.
fn authority(folder: &Path) {
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"));
    openssl(folder, &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
    openssl(
        folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    );
    // The server runs as another user.
    for (path, mode) in [("", 0o755), ("server.pem", 0o644), ("server.key", 0o644), ("ca.pem", 0o644)] {
        let rights = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(folder.join(path), rights).unwrap();
    }
}

const URL: &str = "HIGHWATER_TEST_REDIS";

/// Not a test of its own: the part of the next one that runs where the system trusts the authority.
#[tokio::test]
#[ignore = "run by `a_certificate_is_checked`"]
async fn trusting() {
    let url = std::env::var(URL).unwrap();
    let (tier, _ledger) = opened(url.clone()).await.unwrap();
    tier.admit(vec![offer(1, entry(1))]).await.unwrap();
    let text = refused(url.replace("localhost", "127.0.0.1")).await;
    assert!(text.contains("has a certificate for another name"), "{text}");
}

#[tokio::test]
async fn a_certificate_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    authority(folder.path());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = RedisServer::builder()
        .password("hunter2")
        .config("tls-port", port)
        .config("tls-cert-file", file("server.pem"))
        .config("tls-key-file", file("server.key"))
        .config("tls-ca-cert-file", file("ca.pem"))
        .config("tls-auth-clients", "no")
        .start()
        .await
        .unwrap();
    let url = format!("rediss://:hunter2@localhost:{port}/");
    let text = refused(url.clone()).await;
    assert!(text.contains("is not trusted") && text.contains("SSL_CERT_FILE"), "{text}");
    // The wrong port looks like a server that is away, or has frozen: it is tried again, and nothing is sent in the clear.
    let (tier, _ledger) = opened(format!("rediss://:hunter2@localhost:{}/", server.port())).await.unwrap();
    assert!(tier.fetch(&[address(1)]).await.is_err());
    let trusting = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "encrypted::trusting", "--nocapture"])
        .env("SSL_CERT_FILE", file("ca.pem"))
        .env(URL, &url)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&trusting.stdout).into_owned() + &String::from_utf8_lossy(&trusting.stderr);
    assert!(trusting.status.success() && told.contains("1 passed"), "{told}");
}
