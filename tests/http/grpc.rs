//! A service of tonic and its client, over a real connection.

use crate::support::{Instance, cluster, told};
use axum::http::{Request as HttpRequest, Response as HttpResponse, uri::PathAndQuery};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use highwater::Session;
use highwater::http::{ForwardLayer, TokenLayer};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tower::Service;
use tower::{Layer, service_fn};

/// Messages that are plain text.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(into, item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        use bytes::Buf;
        let bytes = from.copy_to_bytes(from.remaining());
        Ok(Some(String::from_utf8(bytes.to_vec()).unwrap()))
    }
}

type Lines = Pin<Box<dyn Stream<Item = Result<String, Status>> + Send>>;

/// What a generated server would be: `/Name`, `/Rename`, `/RenameAndFail`, `/RenameAndStream`.
#[derive(Clone)]
struct Users(Arc<Instance>);

impl Service<HttpRequest<Body>> for Users {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<HttpResponse<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let (instance, path) = (Arc::clone(&self.0), request.uri().path().to_owned());
        let mut server = tonic::server::Grpc::new(Text);
        async move {
            let streaming = path == "/RenameAndStream";
            let answer = move |request: Request<String>| {
                let (instance, path) = (Arc::clone(&instance), path.clone());
                let session = request.extensions().get::<Session>().unwrap().clone();
                async move {
                    if path == "/Name" {
                        return Ok(told(&instance.users.get(&session, &1).await.unwrap()).0);
                    }
                    instance.rename_for(&session, request.get_ref()).await;
                    if path == "/RenameAndFail" {
                        Err(Status::aborted("after the write"))
                    } else {
                        Ok("done".to_owned())
                    }
                }
            };
            if streaming {
                let lines = service_fn(move |request: Request<String>| {
                    let renamed = answer(request).into_stream();
                    let lines: Lines = Box::pin(tokio_stream::once(Ok("begun".to_owned())).chain(renamed));
                    async move { Ok::<_, Status>(Response::new(lines)) }
                });
                return Ok(server.server_streaming(lines, request).await);
            }
            let unary = service_fn(move |request| answer(request).map(|answer| answer.map(Response::new)));
            Ok(server.unary(unary, request).await)
        }
        .boxed()
    }
}

struct Served {
    client: tonic::client::Grpc<highwater::http::Forward<Channel>>,
    instance: Arc<Instance>,
}

/// An instance, served, and a client of it that takes the session of each call along.
async fn serve(cluster: &highwater::memory::Cluster) -> Served {
    let instance = Arc::new(Instance::over(cluster).await);
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().layer(TokenLayer::new(instance.gate.clone()));
    tokio::spawn(server.serve_with_incoming(Users(Arc::clone(&instance)), incoming));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let channel = ForwardLayer::new(instance.gate.clone()).layer(channel);
    Served { client: tonic::client::Grpc::new(channel), instance }
}

fn message(session: &Session, text: &str) -> Request<String> {
    let mut request = Request::new(text.to_owned());
    request.extensions_mut().insert(session.clone());
    request
}

impl Served {
    async fn call(&mut self, path: &'static str, session: &Session, text: &str) -> Result<String, Status> {
        self.client.ready().await.unwrap();
        let path = PathAndQuery::from_static(path);
        self.client.unary(message(session, text), path, Text).await.map(Response::into_inner)
    }
}

#[tokio::test]
async fn a_call_raises_the_callers_session_and_the_next_call_takes_it_along() {
    let cluster = cluster();
    let (mut writer, mut reader) = (serve(&cluster).await, serve(&cluster).await);
    cluster.pause(1, true);
    let session = Session::new();
    assert_eq!(writer.call("/Rename", &session, "grace").await.unwrap(), "done");
    assert!(!session.token().is_empty());
    assert_eq!(reader.call("/Name", &Session::new(), "").await.unwrap(), "ada");
    assert_eq!(reader.call("/Name", &session, "").await.unwrap(), "grace");
    assert_eq!(reader.instance.gate.stats().valid, 1);
}

#[tokio::test]
async fn a_failed_call_raises_it_too() {
    let cluster = cluster();
    let mut served = serve(&cluster).await;
    let session = Session::new();
    let status = served.call("/RenameAndFail", &session, "grace").await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Aborted);
    assert!(!session.token().is_empty());
}

#[tokio::test]
async fn what_is_written_while_an_answer_streams_comes_with_its_trailers() {
    let cluster = cluster();
    let mut served = serve(&cluster).await;
    let session = Session::new();
    served.client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/RenameAndStream");
    let answer = served.client.server_streaming(message(&session, "grace"), path, Text).await.unwrap();
    let lines: Vec<String> = answer.into_inner().map(Result::unwrap).collect().await;
    assert_eq!(lines, ["begun", "done"]);
    assert!(!session.token().is_empty(), "from the trailers");
    assert_eq!(served.call("/Name", &session, "").await.unwrap(), "grace");
}
