//! Tokens over HTTP: middleware for both ends of a call (feature `http`).
//!
//! A service wraps itself in a [`TokenLayer`]. Each request then has a [`Session`](crate::Session) in its extensions that covers what
//! the client's token says, and each response carries a token if the session was raised meanwhile:
//!
//! ```
//! # #[cfg(not(feature = "axum"))]
//! # fn main() {}
//! # #[cfg(feature = "axum")]
//! # mod example {
//! use axum::{Router, routing::get};
//! use highwater::Session;
//! use highwater::http::{Cookie, TokenLayer};
//! use highwater::wire::{Gate, Key, Keyring};
//!
//! async fn profile(session: Session) -> String { // with the feature `axum`
//!     // users.get(&session, &id).await, store.begin(&session).await, ..
//! #   format!("{session:?}")
//! }
//!
//! # pub fn main() -> Result<(), highwater::Error> {
//! let keyring = Keyring::new(Key::new(1, b"at least thirty-two random bytes, kept secret")?);
//! let gate = Gate::builder(keyring)/* .store(&store) */.build();
//! let app: Router = Router::new()
//!     .route("/profile", get(profile))
//!     .layer(TokenLayer::new(gate).cookie(Cookie::default())?);
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "axum")]
//! # use example::main;
//! ```
//!
//! A client of another service of the same owner wraps itself in a [`ForwardLayer`]: the session in a request's extensions goes
//! along as a token, and what comes back raises it. Everything else of HTTP, such as clients that are not made of tower,
//! has [`Gate`](crate::wire::Gate) to call.
//!
//! The token goes out with the head of a response. Of a body that is still being made then, and raises the session, the
//! token goes out in the trailers, as gRPC has them on every call; where the client cannot be sent trailers
//! (HTTP/1.1 without `TE: trailers`), write first and answer then.
//!
//! Put the layer outside of those that make responses out of errors, such as time-outs: it sees responses only.

mod audience;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod carrier;
mod cookie;
mod forward;
mod future;
mod layer;

pub use audience::Audience;
#[cfg(feature = "axum")]
pub use axum::NoTokenLayer;
pub use body::TokenBody;
pub use carrier::HEADER;
pub use cookie::{Cookie, SameSite};
pub use forward::{Forward, ForwardLayer};
pub use future::ResponseFuture;
pub use layer::{TokenLayer, TokenService};
