//! Tokens over HTTP: axum and tonic over the in-memory edges.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod app;
mod axum;
mod browser;
mod devices;
mod fan_out;
mod grpc;
#[path = "../common/log.rs"]
mod log;
mod refused;
mod sockets;
#[path = "../wire/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the wire form")]
mod support;
