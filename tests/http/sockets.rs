//! The same over real HTTP/1.1, as a client sees it on the wire.

use crate::app::app;
use crate::support::{Instance, cluster};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn exchange(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{head}\r\nHost: here\r\nContent-Length: 0\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn heads_and_trailers_arrive() {
    let instance = Arc::new(Instance::over(&cluster()).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, app(&instance)).into_future());
    let written = exchange(address, "POST /rename/grace HTTP/1.1\r\nConnection: close").await;
    assert!(written.contains("\r\nhighwater-token: ") && written.contains("\r\nset-cookie: __Host-"), "{written}");
    let streamed = "POST /rename-and-stream/hedy HTTP/1.1\r\nConnection: close";
    let deaf = exchange(address, streamed).await;
    assert!(!deaf.contains("highwater-token"), "{deaf}");
    let told = exchange(address, &format!("{streamed}, TE\r\nTE: trailers")).await;
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntrailer: highwater-token") && !head.contains("highwater-token: "), "{told}");
    let (_, trailers) = body.split_once("\r\n0\r\n").unwrap();
    assert!(trailers.starts_with("highwater-token: "), "{told}");
    server.abort();
}
