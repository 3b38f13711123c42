//! TLS: checked, or refused; never silently plaintext.

use crate::authority::Authority;
use crate::{PRIMARY, Result, ask, cluster, load, prepared};
use highwater::source::postgres::Postgres;
use highwater::source::{FaultKind, Lease, Source};
use highwater::testkit::{Cluster, Node};
use std::path::Path;

fn source(node: &Node, host: &str, mode: &str, roots: &Path) -> Result<Postgres> {
    let url = format!("postgres://postgres@{host}:{}/postgres?hostaddr=127.0.0.1{mode}", node.port());
    Ok(Postgres::builder().node(url).root_certificates(roots).build()?)
}

#[tokio::test]
async fn the_chain_and_the_name_are_checked() -> Result {
    let (ours, theirs) = (Authority::new()?, Authority::new()?);
    let (right, wrong) = (ours.roots("postgres-ours")?, theirs.roots("postgres-theirs")?);
    let (certificate, key) = ours.certify("localhost")?;
    let cluster = prepared(Cluster::builder().tls(&certificate, &key).start().await?).await?;
    let node = cluster.primary();
    for mode in ["", "&sslmode=prefer", "&sslmode=require"] {
        let source = source(node, "localhost", mode, &right)?;
        let lease = source.lease(PRIMARY, ask(true)).await?;
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(lease.conn().query_scalar::<bool>(encrypted, &[]).await?, [true], "{mode}");
        lease.finish().await?;
        source.probe(PRIMARY).await?;
        source.nudge(PRIMARY).await?;
    }
    for (host, roots) in [("localhost", &wrong), ("db.example", &right)] {
        for mode in ["", "&sslmode=require"] {
            let fault = load(&source(node, host, mode, roots)?, PRIMARY, ask(true)).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::Misconfigured, "{fault}");
            assert!(fault.to_string().contains(&format!("{host}:{}: connecting: TLS failed", node.port())), "{fault}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_plaintext() -> Result {
    let roots = Authority::new()?.roots("postgres-none")?;
    let cluster = cluster(0).await?;
    for mode in ["", "&sslmode=prefer", "&sslmode=require"] {
        let fault = load(&source(cluster.primary(), "localhost", mode, &roots)?, PRIMARY, ask(true)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misconfigured, "{mode}: {fault}");
        assert!(fault.to_string().contains("sslmode=disable"), "{fault}");
    }
    load(&source(cluster.primary(), "localhost", "&sslmode=disable", &roots)?, PRIMARY, ask(true)).await?;
    Ok(())
}
