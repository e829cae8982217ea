//! `halyard audit`: proves the audit log, or hands it out. It asks the database, not a server, and changes nothing there.

mod export;
mod verify;

use std::io;
use std::time::Duration;

use super::Exit;
use super::database::Opened;
use crate::config::{Audit, Chain};
use crate::store::audit::Which;
use crate::store::feed::Hints;
use crate::store::{self, Settings, Store};

/// Does what is asked; a chain that is broken is [`Exit::Failed`].
pub async fn run(audit: Audit) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    let done = match audit {
        Audit::Verify { database, chains } => {
            let opened = Opened::open(database).await?;
            let verified = verify::database(&store(&opened).await?, chains, &mut out).await;
            opened.close().await?;
            verified
        }
        Audit::VerifyFile { file, kept } => verify::file(&file, kept, &mut out),
        Audit::Export { database, chain } => {
            let opened = Opened::open(database).await?;
            let exported = export::run(&store(&opened).await?, &chain, &mut out).await;
            opened.close().await?;
            exported
        }
    };
    done.or_else(|error| match error.downcast_ref::<io::Error>() {
        // Whoever read the output has seen enough.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        _ => Err(error),
    })
}

/// A long chain takes as long as its reader takes.
async fn store(opened: &Opened) -> Result<Store, store::Error> {
    let settings = Settings {
        pool_size: 1,
        statement_timeout: Duration::ZERO,
        ..Settings::new(&opened.target)
    };
    Store::connect(&settings, Hints::new()).await
}

/// The command line may see everything.
fn which(chain: &Chain) -> Which<'_> {
    match chain {
        Chain::Instance => Which::Instance,
        Chain::Project(project) => Which::Ever(project),
        Chain::Named(name) => Which::Named(name),
    }
}
