//! The session as an extractor of axum (feature `axum`).

use crate::Session;
use axum_core::extract::FromRequestParts;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;

/// The session that a [`TokenLayer`](super::TokenLayer) has put into the request.
impl<S: Sync> FromRequestParts<S> for Session {
    type Rejection = NoTokenLayer;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoTokenLayer> {
        // Made here, it would lose what its client wrote, and nobody would notice.
        parts.extensions.get::<Self>().cloned().ok_or(NoTokenLayer)
    }
}

/// A handler asks for a [`Session`], and no [`TokenLayer`](super::TokenLayer) is around it. Answered with status 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a handler asks for a session, and no TokenLayer is around it")]
#[non_exhaustive]
pub struct NoTokenLayer;

impl IntoResponse for NoTokenLayer {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
