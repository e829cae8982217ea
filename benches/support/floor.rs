//! Bare floors: tonic with nothing of ours around it but the messages. What they reach is what this machine can do at best.
//!
//! `floor <shape> <answer>` answers every Evaluate with the given message; `floor <shape> <answer> <message>…` also sends the given
//! messages on every Watch stream whenever Evaluate is called. Messages are hexadecimal digits. The first line that it writes is
//! where it listens.

use std::io::{self, IoSlice, Write as _};
use std::net::TcpListener;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use halyard::pb::evaluation::v1 as pb;
use halyard::pb::evaluation::v1::evaluation_service_server::{EvaluationService, EvaluationServiceServer};
use halyard::rpc::watch::{WatchService, WatchServiceServer};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Request, Response, Status};

use super::Result;

/// Which threads serve connections.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// So many single-threaded runtimes, connections dealt out in turn.
    PerCore(usize),
    /// One runtime whose so many threads steal work from each other.
    Stealing(usize),
}

impl Shape {
    /// As an argument.
    pub fn argument(self) -> String {
        match self {
            Self::PerCore(threads) => format!("per-core:{threads}"),
            Self::Stealing(threads) => format!("stealing:{threads}"),
        }
    }

    /// Reads one.
    pub fn parse(text: &str) -> Result<Self> {
        let (kind, threads) = text.split_once(':').ok_or("a shape is kind:threads")?;
        let threads = threads.parse()?;
        match kind {
            "per-core" => Ok(Self::PerCore(threads)),
            "stealing" => Ok(Self::Stealing(threads)),
            _ => Err("a shape is per-core or stealing".into()),
        }
    }
}

/// Serves until the process is stopped.
pub fn run(arguments: &[String]) -> Result<()> {
    let [shape, answer, messages @ ..] = arguments else {
        return Err("floor <shape> <answer> [<message>…]".into());
    };
    let answer = pb::EvaluateResponse::decode(hex::decode(answer)?.as_slice())?;
    let messages = messages.iter().map(|message| Ok(hex::decode(message)?.into()));
    let bare = Bare {
        answer,
        steps: watch::Sender::new(()),
        messages: messages.collect::<Result<_>>()?,
    };
    let bare = Arc::new(bare);
    let services = Routes::new(EvaluationServiceServer::from_arc(bare.clone()));
    serve_on(
        Shape::parse(shape)?,
        &services.add_service(WatchServiceServer::from_arc(bare)),
    )
}

/// Serves until the process is stopped.
pub fn serve_on(shape: Shape, services: &Routes) -> Result<()> {
    let (seats, threads) = match shape {
        Shape::PerCore(threads) => (threads, 1),
        Shape::Stealing(threads) => (1, threads),
    };
    let seats: Vec<_> = (0..seats).map(|_| seat(services.clone(), threads)).collect();
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;
    for seat in seats.iter().cycle() {
        let (connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        connection.set_nonblocking(true)?;
        seat.blocking_send(connection)?;
    }
    Ok(())
}

type Seat = mpsc::Sender<std::net::TcpStream>;

/// A thread with a runtime that serves whatever it is given.
fn seat(services: Routes, threads: usize) -> Seat {
    let (seat, connections) = mpsc::channel(64);
    thread::spawn(move || {
        let runtime = if threads == 1 {
            Builder::new_current_thread().enable_all().build()
        } else {
            Builder::new_multi_thread().worker_threads(threads).enable_all().build()
        };
        let served = runtime.map(|runtime| runtime.block_on(serve(services, connections)));
        panic!("a floor ended: {served:?}");
    });
    seat
}

async fn serve(services: Routes, connections: mpsc::Receiver<std::net::TcpStream>) -> Result<()> {
    let connections = ReceiverStream::new(connections).map(|connection| TcpStream::from_std(connection).map(Whole));
    let server = Server::builder().add_routes(services);
    Ok(server.serve_with_incoming(connections).await?)
}

struct Bare {
    answer: pb::EvaluateResponse,
    /// Changes whenever the messages are to be sent.
    steps: watch::Sender<()>,
    messages: Arc<[Bytes]>,
}

#[tonic::async_trait]
impl EvaluationService for Bare {
    async fn evaluate(
        &self,
        _: Request<pb::EvaluateRequest>,
    ) -> std::result::Result<Response<pb::EvaluateResponse>, Status> {
        if !self.messages.is_empty() {
            self.steps.send_replace(());
        }
        Ok(Response::new(self.answer.clone()))
    }

    async fn evaluate_all(
        &self,
        _: Request<pb::EvaluateAllRequest>,
    ) -> std::result::Result<Response<pb::EvaluateAllResponse>, Status> {
        Err(Status::unimplemented("not part of the floor"))
    }

    async fn get_assignment(
        &self,
        _: Request<pb::GetAssignmentRequest>,
    ) -> std::result::Result<Response<pb::GetAssignmentResponse>, Status> {
        Err(Status::unimplemented("not part of the floor"))
    }

    async fn track(&self, _: Request<pb::TrackRequest>) -> std::result::Result<Response<pb::TrackResponse>, Status> {
        Err(Status::unimplemented("not part of the floor"))
    }
}

#[tonic::async_trait]
impl WatchService for Bare {
    type WatchStream = BoxStream<'static, std::result::Result<Bytes, Status>>;

    async fn watch(&self, _: Request<pb::WatchRequest>) -> std::result::Result<Response<Self::WatchStream>, Status> {
        let messages = self.messages.clone();
        let steps = stream::unfold(self.steps.subscribe(), |mut steps| async {
            steps.changed().await.ok().map(|()| ((), steps))
        });
        // The first step at once, as a new stream of ours has.
        let steps = stream::once(async {}).chain(steps);
        let frames = steps.flat_map(move |()| {
            let messages = messages.clone();
            stream::iter((0..messages.len()).map(move |n| Ok(messages[n].clone())))
        });
        Ok(Response::new(frames.boxed()))
    }

    type WatchEvaluationsStream = BoxStream<'static, std::result::Result<Bytes, Status>>;

    async fn watch_evaluations(
        &self,
        _: Request<pb::WatchEvaluationsRequest>,
    ) -> std::result::Result<Response<Self::WatchEvaluationsStream>, Status> {
        Err(Status::unimplemented("not part of the floor"))
    }

    async fn acknowledge(
        &self,
        _: Request<pb::AcknowledgeRequest>,
    ) -> std::result::Result<Response<pb::AcknowledgeResponse>, Status> {
        Err(Status::unimplemented("not part of the floor"))
    }
}

/// A connection that is written to in one piece, as ours is: with vectored writes every message of 256 bytes and more is a system
/// call of its own.
struct Whole(TcpStream);

impl Connected for Whole {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.0.connect_info()
    }
}

impl AsyncRead for Whole {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Whole {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
