//! Instances of a service, each with devices over one store, and people who come without a token.

use highwater::devices::{DeviceStore, Devices, Remembered};
use highwater::memory::{Cluster, Source, View};
use highwater::source::Fault;
use highwater::{Cache, Highwater, Read, ReadError, Repository, Rung, Session};
use std::time::Duration;

pub(crate) const USER: &str = "user 7";
pub(crate) const LIFE: Duration = Duration::from_secs(600);

pub(crate) struct Users;

impl Repository<View> for Users {
    type Key = u64;
    type Value = String;
    type Error = Fault;

    async fn load(&self, on: &View, key: &u64) -> Result<Option<String>, Fault> {
        Ok(on.get::<String>("users", key).await?.map(|name| String::clone(&name)))
    }
}

/// One instance. Without a bus: it learns nothing from others but through the devices.
pub(crate) struct Instance {
    pub(crate) store: Highwater<Source>,
    pub(crate) users: Cache<Users, Source>,
    pub(crate) devices: Devices,
}

impl Instance {
    pub(crate) async fn over(cluster: &Cluster, devices: impl DeviceStore) -> Self {
        let store = Highwater::over(cluster.source()).world(1, 1_700_000_000_000).start().await.unwrap();
        let users = store.cache("users", Users).time_to_live(Duration::from_secs(3600)).build().unwrap();
        let devices = Devices::builder(devices).store(&store).life(LIFE).build().unwrap();
        Self { store, users, devices }
    }

    pub(crate) async fn write(&self, session: &Session, name: &str) {
        let mut tx = self.store.begin(session).await.unwrap();
        tx.put("users", 1, name.to_owned()).await.unwrap();
        tx.retract(&self.users, &1);
        tx.commit().await.unwrap();
    }

    /// A request of a device that renames the user.
    pub(crate) async fn rename(&self, name: &str) -> Remembered {
        let session = Session::new();
        let visit = self.devices.visit(&session, USER);
        self.write(&session, name).await;
        visit.remember().await
    }

    pub(crate) async fn read(&self, session: &Session) -> Result<Read<String>, ReadError<Fault>> {
        self.users.get(session, &1).await
    }

    /// A request of another device that reads.
    pub(crate) async fn look(&self) -> (String, Rung) {
        let session = Session::new();
        let visit = self.devices.visit(&session, USER);
        let read = self.read(&session).await.unwrap();
        visit.remember().await;
        told(&read)
    }

    /// The same of somebody who is not known.
    pub(crate) async fn look_as_nobody(&self) -> (String, Rung) {
        told(&self.read(&Session::new()).await.unwrap())
    }
}

pub(crate) fn told(read: &Read<String>) -> (String, Rung) {
    (String::clone(read.value.as_ref().unwrap()), read.rung)
}

/// A cluster with user 1, `ada`.
pub(crate) fn cluster(standbys: usize) -> Cluster {
    let cluster = Cluster::new(standbys);
    cluster.put("users", 1, "ada".to_owned());
    cluster
}
