//! Load: so many connections with so many requests in flight each, in a closed loop, in a process of its own. Nothing but h2 and
//! bytes that were encoded beforehand; a client made of what it measures would be what it measures.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use halyard::pb::evaluation::v1 as pb;
use http::Request;
use prost::Message as _;
use tokio::net::TcpSocket;
use uuid::Uuid;

use super::numbers::percentile;
use super::process::Process;
use super::{Result, process};

/// The method that answers for one flag.
pub const EVALUATE: &str = "/halyard.evaluation.v1.EvaluationService/Evaluate";
/// The method that answers for all flags.
pub const EVALUATE_ALL: &str = "/halyard.evaluation.v1.EvaluationService/EvaluateAll";
/// How long the load runs before it counts.
const WARM_UP: Duration = Duration::from_millis(500);
const WINDOW: u32 = 1 << 20;

/// What to send whom, and how much of it.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub server: SocketAddr,
    /// What is shown to it.
    pub credential: String,
    /// The method that is called.
    pub method: String,
    /// The message, in hexadecimal digits.
    pub message: String,
    /// Units that ask in turn. 1: the one in the message.
    pub units: u64,
    /// How many connections.
    pub connections: usize,
    /// How many requests are in flight on each.
    pub in_flight: usize,
    /// When it ends.
    pub until: Until,
}

/// When load ends.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After this time, warmed up before.
    Time(Duration),
    /// After so many requests, cold.
    Requests(u64),
}

/// What was answered.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Per second.
    pub requests: f64,
    /// The time of a request that half were faster than, in milliseconds.
    pub p50: f64,
    /// The same for 99 in 100.
    pub p99: f64,
    /// What the server computed per request, in microseconds.
    pub cpu: f64,
}

impl Load {
    /// Sends it from these cores, and watches what it costs the server.
    pub fn send(&self, cores: &[usize], server: &Process) -> Result<Outcome> {
        let mut client = Process::again(cores, &self.arguments())?;
        expect(&client.line()?, "begin")?;
        let before = server.cpu()?;
        expect(&client.line()?, "end")?;
        let cpu = server.cpu()?.saturating_sub(before);
        let line = client.line()?;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?;
        let [requests, seconds, p50, p99] = numbers[..] else {
            return Err(format!("unreadable outcome: {line}").into());
        };
        Ok(Outcome {
            requests: requests / seconds,
            p50,
            p99,
            cpu: cpu.as_secs_f64() * 1e6 / requests,
        })
    }

    fn arguments(&self) -> Vec<String> {
        let until = match self.until {
            Until::Time(time) => format!("{}s", time.as_secs_f64()),
            Until::Requests(count) => count.to_string(),
        };
        let connections = self.connections.to_string();
        let in_flight = self.in_flight.to_string();
        let fixed = [
            "load".to_owned(),
            self.server.to_string(),
            self.credential.clone(),
            self.method.clone(),
            self.message.clone(),
            self.units.to_string(),
        ];
        fixed.into_iter().chain([connections, in_flight, until]).collect()
    }

    fn parse(arguments: &[String]) -> Result<Self> {
        let [
            server,
            credential,
            method,
            message,
            units,
            connections,
            in_flight,
            until,
        ] = arguments
        else {
            return Err(
                "load <server> <credential> <method> <message> <units> <connections> <in flight> <until>".into(),
            );
        };
        let until = match until.strip_suffix('s') {
            Some(seconds) => Until::Time(Duration::try_from_secs_f64(seconds.parse()?)?),
            None => Until::Requests(until.parse()?),
        };
        Ok(Self {
            server: server.parse()?,
            credential: credential.clone(),
            method: method.clone(),
            message: message.clone(),
            units: units.parse()?,
            connections: connections.parse()?,
            in_flight: in_flight.parse()?,
            until,
        })
    }
}

fn expect(line: &str, expected: &str) -> Result<()> {
    if line == expected {
        Ok(())
    } else {
        Err(format!("the load generator wrote {line:?} in place of {expected:?}").into())
    }
}

/// Loads, in this process.
pub fn run(arguments: &[String]) -> Result<()> {
    let load = Load::parse(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(make(load))
}

async fn make(load: Load) -> Result<()> {
    let question = |message: Vec<u8>| Question::new(&load.server, &load.credential, &load.method, &message);
    let questions: Arc<[Question]> = messages(&load)?.into_iter().map(question).collect::<Result<_>>()?;
    let tally = Arc::new(Tally::new(load.until));
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        let connection = connect(load.server).await?;
        for _ in 0..load.in_flight {
            clients.push(tokio::spawn(ask(connection.clone(), questions.clone(), tally.clone())));
        }
    }
    if let Until::Time(_) = load.until {
        tokio::time::sleep(WARM_UP).await;
    }
    tally.counting.store(true, Ordering::Relaxed);
    println!("begin");
    let started = Instant::now();
    if let Until::Time(time) = load.until {
        tokio::time::sleep(time).await;
        tally.ended.store(true, Ordering::Relaxed);
    }
    let mut latencies = Vec::new();
    let mut elapsed = started.elapsed();
    if let Until::Time(_) = load.until {
        println!("end");
    }
    for client in clients {
        latencies.extend(client.await??);
    }
    if let Until::Requests(_) = load.until {
        elapsed = started.elapsed();
        println!("end");
    }
    let requests = latencies.len();
    let (p50, p99) = (percentile(&mut latencies, 0.5), percentile(&mut latencies, 0.99));
    println!("{requests} {} {p50} {p99}", elapsed.as_secs_f64());
    Ok(())
}

/// The message as each unit sends it.
fn messages(load: &Load) -> Result<Vec<Vec<u8>>> {
    let message = hex::decode(&load.message)?;
    if load.units == 1 {
        return Ok(vec![message]);
    }
    let request = pb::EvaluateRequest::decode(message.as_slice())?;
    let of = |unit: u64| {
        let mut request = request.clone();
        if let Some(context) = &mut request.context {
            context.targeting_key = Uuid::from_u64_pair(0, unit).to_string();
        }
        request.encode_to_vec()
    };
    Ok((0..load.units).map(of).collect())
}

/// Which requests count, and when to stop.
struct Tally {
    counting: AtomicBool,
    ended: AtomicBool,
    /// How many may still be sent.
    left: AtomicU64,
    /// How many units have asked, again and again.
    turn: AtomicUsize,
}

impl Tally {
    fn new(until: Until) -> Self {
        let (left, counting) = match until {
            Until::Time(_) => (u64::MAX, false),
            Until::Requests(count) => (count, true),
        };
        Self {
            counting: AtomicBool::new(counting),
            ended: AtomicBool::new(false),
            left: AtomicU64::new(left),
            turn: AtomicUsize::new(0),
        }
    }

    fn take(&self) -> bool {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok() && !self.ended.load(Ordering::Relaxed)
    }
}

/// Asks again and again, and returns how long the answers took in milliseconds.
async fn ask(connection: SendRequest<Bytes>, questions: Arc<[Question]>, tally: Arc<Tally>) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    while tally.take() {
        let turn = tally.turn.fetch_add(1, Ordering::Relaxed);
        let question = &questions[turn % questions.len()];
        let started = Instant::now();
        question.ask(&connection).await?;
        if tally.counting.load(Ordering::Relaxed) && !tally.ended.load(Ordering::Relaxed) {
            latencies.push(started.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(latencies)
}

/// Opens a connection.
pub async fn connect(server: SocketAddr) -> Result<SendRequest<Bytes>> {
    connect_from(IpAddr::V4(Ipv4Addr::UNSPECIFIED), server).await
}

/// The same, from this address of this machine.
pub async fn connect_from(source: IpAddr, server: SocketAddr) -> Result<SendRequest<Bytes>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(16 * WINDOW);
    let (requests, connection) = builder.handshake(stream).await?;
    // If it fails, its requests fail with the same error.
    tokio::spawn(async { drop(connection.await) });
    Ok(requests)
}

/// A request, ready to be sent.
pub struct Question {
    head: Request<()>,
    message: Bytes,
}

impl Question {
    /// A call of a method with an encoded message.
    pub fn new(server: &SocketAddr, credential: &str, method: &str, message: &[u8]) -> Result<Self> {
        let head = Request::post(format!("http://{server}{method}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("user-agent", "bench")
            .header("authorization", format!("Bearer {credential}"))
            .body(())?;
        let mut framed = BytesMut::with_capacity(5 + message.len());
        framed.put_u8(0);
        framed.put_u32(message.len().try_into()?);
        framed.put_slice(message);
        let message = framed.freeze();
        Ok(Self { head, message })
    }

    /// Sends it.
    pub async fn send(&self, connection: &SendRequest<Bytes>) -> Result<h2::client::ResponseFuture> {
        let mut connection = connection.clone().ready().await?;
        let (response, mut body) = connection.send_request(self.head.clone(), false)?;
        body.send_data(self.message.clone(), true)?;
        Ok(response)
    }

    /// Sends it and takes the answer, which must be one.
    pub async fn ask(&self, connection: &SendRequest<Bytes>) -> Result<Bytes> {
        match self.call(connection).await? {
            (0, answer) if answer.len() >= 5 => Ok(answer.slice(5..)),
            (code, _) => Err(format!("an answer that is none: code {code}").into()),
        }
    }

    /// Sends it and takes whatever comes: the status code, and the framed message if there is one.
    pub async fn call(&self, connection: &SendRequest<Bytes>) -> Result<(u8, Bytes)> {
        let (head, mut body) = self.send(connection).await?.await?.into_parts();
        let mut answer = Bytes::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            if answer.is_empty() {
                answer = data;
            } else if !data.is_empty() {
                answer = [answer, data].concat().into();
            }
        }
        let trailers = body.trailers().await?;
        // Without a message everything may come in one piece.
        let status = trailers.as_ref().unwrap_or(&head.headers).get("grpc-status");
        let code = status.ok_or("an answer without a status")?.to_str()?.parse()?;
        Ok((code, answer))
    }
}

/// One answer, for looking at it.
pub fn once(load: &Load) -> Result<Bytes> {
    process::keep_to(process::SHARED)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let question = Question::new(
            &load.server,
            &load.credential,
            &load.method,
            &hex::decode(&load.message)?,
        )?;
        question.ask(&connect(load.server).await?).await
    })
}
