//! The Halyard program.

use std::env;
use std::process::ExitCode;

use halyard::config::{self, Command, Configuration, Environment, Unknown};
use halyard::telemetry::{self, Writing};
use halyard::{cli, embedded, shutdown, tls};
use tokio_util::sync::CancellationToken;

#[cfg(all(feature = "jemalloc", not(feature = "mimalloc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == embedded::SUPERVISED_EXEC) {
        return embedded::run_supervised(arguments);
    }
    tls::install_provider();
    let configuration = match config::parse(env::args_os(), &Environment::of_process()) {
        Ok(configuration) => configuration,
        Err(refusal) => return refusal.report(),
    };
    let Configuration { log, command, unknown } = configuration;
    // Whoever waits for a command reads what it says; a server must not wait for a reader.
    let writing = if command.is_server() {
        Writing::Aside
    } else {
        Writing::AtOnce
    };
    let ran = telemetry::init(&log, writing)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            tell(&unknown);
            run(command)
        });
    let code = ran.unwrap_or_else(|error| {
        telemetry::say(&cli::complaint(&*error));
        cli::Exit::Failed.into()
    });
    telemetry::flush();
    code
}

/// A setting whose name was misspelt is not in force, and somebody believes that it is.
fn tell(unknown: &[Unknown]) {
    for Unknown { name, nearest } in unknown {
        tracing::warn!(
            variable = name,
            nearest,
            "there is no setting of this name: the variable does nothing"
        );
    }
}

/// Runs a command on the runtime for everything but connections, until it is done or a signal comes.
fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ran = runtime.block_on(async {
        let stop = CancellationToken::new();
        shutdown::listen(stop.clone())?;
        match command {
            Command::Serve(serve) => Box::pin(cli::serve::run(*serve, &stop)).await?,
            Command::Sidecar(sidecar) => cli::sidecar::run(*sidecar, &stop).await?,
            Command::Dev(dev) => Box::pin(cli::dev::run(*dev, &stop)).await?,
            Command::Migrate(migrate) => cli::migrate::run(migrate).await?,
            Command::CreateAdmin(create) => cli::create_admin::run(create).await?,
            Command::Audit(audit) => return Ok(cli::audit::run(audit).await?.into()),
            Command::Print(text) => cli::print(&text)?,
            Command::Client(client) => return Ok(cli::run(client, &stop).await.into()),
        }
        Ok(ExitCode::SUCCESS)
    });
    // Whatever still blocks a thread, a prompt for instance, must not keep the process.
    runtime.shutdown_background();
    ran
}
