//! TLS: checked, or refused; never silently plaintext.

use crate::{PRIMARY, Result, ask, cluster, load};
use highwater::source::postgres::Postgres;
use highwater::source::{FaultKind, Lease, Source};
use highwater::testkit::{Cluster, Node};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A private authority with a certificate for `localhost`, in PEM.
struct Authority {
    roots: PathBuf,
    certificate: String,
    key: String,
}

fn openssl(folder: &Path, args: &str) -> Result {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
}

fn authority(cluster: &Cluster) -> Result<Authority> {
    let folder = cluster.folder().join("authority");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"))?;
    openssl(&folder, &format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"))?;
    openssl(
        &folder,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
    )?;
    let read = |name| std::fs::read_to_string(folder.join(name));
    Ok(Authority { roots: folder.join("ca.pem"), certificate: read("server.pem")?, key: read("server.key")? })
}

/// Has the server itself write the files, so that they belong to its user.
async fn serve_tls(node: &Node, authority: &Authority) -> Result {
    for (name, pem) in [("server.crt", &authority.certificate), ("server.key", &authority.key)] {
        let lines = format!("select unnest(string_to_array('{pem}', E'\\n'))");
        node.execute(&format!("copy ({lines}) to program 'umask 077; cat > {name}'")).await?;
    }
    node.configure("ssl", "on").await?;
    Ok(())
}

fn source(node: &Node, host: &str, mode: &str, roots: &Path) -> Result<Postgres> {
    let url = format!("postgres://postgres@{host}:{}/postgres?hostaddr=127.0.0.1{mode}", node.port());
    Ok(Postgres::builder().node(url).root_certificates(roots).build()?)
}

#[tokio::test]
async fn the_chain_and_the_name_are_checked() -> Result {
    let cluster = cluster(0).await?;
    let (authority, node) = (authority(&cluster)?, cluster.primary());
    let other = other_authority(&cluster)?;
    let plain_server = source(node, "localhost", "", &authority.roots)?;
    let fault = load(&plain_server, PRIMARY, ask(true)).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misconfigured, "no fall-back to plaintext: {fault}");
    serve_tls(node, &authority).await?;
    for mode in ["", "&sslmode=prefer", "&sslmode=require"] {
        let source = source(node, "localhost", mode, &authority.roots)?;
        let lease = source.lease(PRIMARY, ask(true)).await?;
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(lease.conn().query_scalar::<bool>(encrypted, &[]).await?, [true], "{mode}");
        lease.finish().await?;
        source.probe(PRIMARY).await?;
    }
    for (host, roots) in [("localhost", &other), ("db.example", &authority.roots)] {
        let fault = load(&source(node, host, "", roots)?, PRIMARY, ask(true)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
        assert!(fault.to_string().contains("TLS failed"), "{fault}");
    }
    Ok(())
}

fn other_authority(cluster: &Cluster) -> Result<PathBuf> {
    let folder = cluster.folder().join("other");
    std::fs::create_dir(&folder)?;
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&folder, &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=other -days 2"))?;
    Ok(folder.join("ca.pem"))
}
