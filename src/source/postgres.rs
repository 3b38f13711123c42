#![allow(missing_docs)]
use super::*;
#[derive(Debug)]
pub struct Postgres;
#[derive(Debug)]
pub struct Routed;
#[derive(Debug)]
pub struct L;
#[derive(Debug)]
pub struct T;
impl Lease for L {
    type Conn = Routed;
    fn conn(&self) -> &Routed {
        unreachable!()
    }
    async fn finish(self) -> Result<Stamp, Fault> {
        unreachable!()
    }
}
impl Transaction for T {
    type Conn = Routed;
    fn conn(&self) -> &Routed {
        unreachable!()
    }
    async fn commit(self, _: Instant) -> Committed {
        unreachable!()
    }
}
impl Source for Postgres {
    type Conn = Routed;
    type Lease = L;
    type Tx = T;
    fn nodes(&self) -> &[NodeInfo] {
        unreachable!()
    }
    async fn probe(&self, _: NodeId) -> Result<Probe, Fault> {
        unreachable!()
    }
    async fn lease(&self, _: NodeId, _: Ask) -> Result<L, Fault> {
        unreachable!()
    }
    async fn begin(&self, _: NodeId, _: Instant) -> Result<T, Fault> {
        unreachable!()
    }
    async fn outcome(&self, _: NodeId, _: u64) -> Result<Outcome, Fault> {
        unreachable!()
    }
    async fn nudge(&self, _: NodeId) -> Result<(), Fault> {
        unreachable!()
    }
}
