//! What the store did not take, and when it is told again.

use super::*;
use crate::memory::{Cluster, Shared};
use crate::{Highwater, Session};

/// A store that never takes what one user's devices hold, as where another type of value lies at its place.
#[derive(Clone)]
struct Stubborn {
    place: Shared,
    never: Digest,
}

impl Sealed for Stubborn {}

impl DeviceStore for Stubborn {
    async fn exchange(&self, user: Digest, exchange: Exchange) -> Result<Exchanged, TierError> {
        if user == self.never {
            return Err(TierError::new("another type of value"));
        }
        DeviceStore::exchange(&self.place, user, exchange).await
    }
}

#[tokio::test(start_paused = true)]
async fn one_record_that_is_never_taken_holds_up_no_other() {
    let never = Digest::of_user(b"0");
    let store = Highwater::over(Cluster::new(0).source()).start().await.unwrap();
    for closes in [false, true] {
        let place = Shared::default();
        let devices = Devices::builder(Stubborn { place: place.clone(), never }).store(&store).build().unwrap();
        place.set_full(true);
        for user in ["0", "1", "2"] {
            let session = Session::new();
            let visit = devices.visit(&session, user);
            store.begin(&session).await.unwrap().commit().await.unwrap();
            assert_eq!(visit.remember().await, Remembered::Deferred);
        }
        place.set_full(false);
        if closes {
            devices.close().await;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let stats = devices.stats();
        assert_eq!((stats.remembered, stats.dropped), (2, u64::from(closes)), "closes: {closes}");
    }
}
