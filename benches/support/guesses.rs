//! Somebody who guesses passwords: logins with a wrong one, so many a second whatever is answered, in a process of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use halyard::pb::admin::v1 as admin;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Result;
use super::load::{Question, connect_from};
use super::process::Process;

const LOGIN: &str = "/halyard.admin.v1.AuthService/Login";
/// Guesses a second.
pub const RATE: u32 = 50;
/// What a server allows at once before it throttles is used up after this time.
const WARM_UP: Duration = Duration::from_secs(3);

/// Who guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// One address, at one account.
    One,
    /// As many addresses as there are guesses a second, each time at another account.
    Many,
}

/// What became of the guesses.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// How many were looked at, in a hundred.
    pub looked_at: f64,
}

/// Starts guessing at a server, and returns when it has gone on for a while.
pub fn start(cores: &[usize], server: SocketAddr, from: From, time: Duration) -> Result<Process> {
    let many = (from == From::Many).to_string();
    let time = time.as_secs_f64().to_string();
    let mut process = Process::again(cores, &["guess".to_owned(), server.to_string(), many, time])?;
    process.line()?;
    Ok(process)
}

/// Waits for the end of it.
pub fn end(mut process: Process) -> Result<Answered> {
    let line = process.line()?;
    let (looked_at, all) = line.split_once(' ').ok_or("an unreadable count")?;
    let (looked_at, all): (f64, f64) = (looked_at.parse()?, all.parse()?);
    if all < 1.0 {
        return Err("nobody was answered".into());
    }
    Ok(Answered {
        looked_at: 100.0 * looked_at / all,
    })
}

/// Guesses, in this process.
pub fn run(arguments: &[String]) -> Result<()> {
    let [server, many, time] = arguments else {
        return Err("guess <server> <many> <seconds>".into());
    };
    let (server, many, time) = (
        server.parse()?,
        many.parse()?,
        Duration::try_from_secs_f64(time.parse()?)?,
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(guess(server, many, time))
}

async fn guess(server: SocketAddr, many: bool, time: Duration) -> Result<()> {
    let mut connections = Vec::new();
    for n in 0..if many { RATE } else { 1 } {
        let host = u8::try_from(n + 2)?;
        connections.push(connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), server).await?);
    }
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (start, mut begun) = (Instant::now() + WARM_UP, false);
    let mut answers = Vec::new();
    for (n, connection) in (0_u32..).zip(connections.iter().cycle()) {
        let now = ticks.tick().await;
        if now >= start && !begun {
            begun = true;
            println!("begin");
        }
        if now >= start + time {
            break;
        }
        let email = if many {
            format!("guess-{n}@example.com")
        } else {
            "ada@example.com".to_owned()
        };
        let answer = tokio::spawn(try_one(server, connection.clone(), email));
        if begun {
            answers.push(answer);
        }
    }
    let (mut looked_at, all) = (0, answers.len());
    for answer in answers {
        looked_at += u32::from(answer.await??);
    }
    println!("{looked_at} {all}");
    Ok(())
}

/// Whether the password was looked at; otherwise the guess was throttled.
async fn try_one(server: SocketAddr, connection: SendRequest<Bytes>, email: String) -> Result<bool> {
    let login = admin::LoginRequest {
        email,
        password: "not the password of anybody".into(),
        access_only: true,
    };
    let question = Question::new(&server, "", LOGIN, &login.encode_to_vec())?;
    let answer = question.send(&connection).await?.await?;
    match answer.headers().get("grpc-status").map(http::HeaderValue::as_bytes) {
        Some(b"16") => Ok(true),
        Some(b"8") => Ok(false),
        _ => Err(format!("a login was answered {:?}", answer.headers()).into()),
    }
}
