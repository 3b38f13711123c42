//! Whom the token of a response is for.

use std::fmt;

/// Whom the token of a response is for, where that is somebody else than its request's was for: put into the extensions of a
/// response that begins or ends a login session. All that the session holds goes out then, since the client's token is
/// forged from its next request on. Without it the response's token is for whom the [`TokenLayer`](super::TokenLayer) found in the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Audience(pub(super) Option<Vec<u8>>);

impl Audience {
    /// Whom [`TokenLayer::audience`](super::TokenLayer::audience) will find in the client's next requests.
    pub fn of(id: impl Into<Vec<u8>>) -> Self {
        Self(Some(id.into()))
    }

    /// Nobody: the client's next requests name none.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Audience {
    /// Without the id, which may be that of a login session.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience").finish_non_exhaustive()
    }
}
