//! `halyard dev`: a server on a developer's machine, with everything that it takes: a private PostgreSQL, a signing key, an
//! administrator, a demo project, and what to try next.

mod demo;
mod keepsake;

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::database::Opened;
use super::serve;
use crate::config::Dev;
use crate::server::Server;
use keepsake::Keepsake;

/// Serves until asked to stop.
pub async fn run(dev: Dev, stop: &CancellationToken) -> anyhow::Result<()> {
    let started = Instant::now();
    let Dev {
        embedded,
        signing_key,
        service,
    } = dev;
    let Some(database) = serve::unless_stopped(stop, Opened::start(embedded)).await? else {
        return Ok(());
    };
    let folder = database
        .data_dir()
        .context("a private PostgreSQL has a folder")?
        .to_owned();
    let served = async {
        let mut keepsake = Keepsake::open(&folder).context("what the demo project's keys are kept in")?;
        let signing_key = match signing_key {
            Some(key) => key,
            None => keepsake.signing_key()?,
        };
        // Boxed for its size, as in `serve`.
        let starting = async { Ok(Box::pin(Server::start(serve::options(&service, &database, &signing_key))).await?) };
        let Some(server) = serve::unless_stopped(stop, starting).await? else {
            return Ok(());
        };
        let welcomed = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            () = server.failed() => Ok(()),
            welcomed = welcome(&server, &mut keepsake, started) => welcomed,
        };
        if let Err(error) = welcomed {
            // What went wrong first is what to tell.
            let _ = server.stop().await;
            return Err(error);
        }
        serve::until_stopped(server, stop).await
    };
    let served = served.await;
    database.close().await?;
    served
}

/// Makes the demo project, and tells what to try.
async fn welcome(server: &Server, keepsake: &mut Keepsake, started: Instant) -> anyhow::Result<()> {
    server.ready().await;
    // Before there is an administrator with it: whatever interrupts the rest, the next start can log in.
    keepsake.make_password()?;
    keepsake.save(&reachable(server))?;
    demo::prepare(server, keepsake).await.context("the demo project")?;
    keepsake.save(&reachable(server))?;
    greet(server, keepsake, started)
}

/// The URL at which programs on this machine find a server.
fn reachable(server: &Server) -> String {
    let mut address = server.address();
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("{}://{address}", server.scheme())
}

fn greet(server: &Server, keepsake: &Keepsake, started: Instant) -> anyhow::Result<()> {
    let endpoint = reachable(server);
    let seconds = started.elapsed().as_secs_f64();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "
Halyard is ready at {endpoint} (it took {seconds:.1} s).

  project         demo, with the environments dev, staging and prod
  server key      {server_key}
  client key      {client_key}
  administrator   {email}, password {password}

Try it: in other terminals, after

  . {settings}

  halyard evaluate new-checkout --targeting-key alice
  halyard watch
  halyard toggle new-checkout off

Ctrl-C stops it; everything is kept for the next time.
",
        server_key = keepsake.server_key(),
        client_key = keepsake.client_key(),
        email = demo::EMAIL,
        password = keepsake.password(),
        settings = quoted(keepsake.path()),
    )?;
    Ok(out.flush()?)
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-".contains(&c)) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
