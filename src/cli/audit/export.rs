//! `halyard audit export`: a chain, one entry a line, as [`crate::domain::audit::line`] writes it.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use anyhow::Context as _;

use super::which;
use crate::cli::{Exit, say};
use crate::config::Chain;
use crate::domain::audit::{Head, Linked, line};
use crate::store::Store;

/// Writes the chain, and tells its head.
pub(super) async fn run(store: &Store, chain: &Chain, out: &mut impl Write) -> anyhow::Result<Exit> {
    let chain = store.audit_chain(which(chain)).await?;
    let (mut out, mut head) = (BufWriter::new(out), Head::default());
    let read = store.read_chain(&chain, |linked| match write(&mut out, &chain, &linked) {
        Ok(()) => {
            head = Head {
                sequence: linked.sequence,
                hash: linked.hash,
            };
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(error),
    });
    if let ControlFlow::Break(error) = read.await.context("the chain cannot be read; verify it")? {
        return Err(error.into());
    }
    out.flush()?;
    say(&format!(
        "Exported chain {chain}. Its head is {head}; kept elsewhere, it will show whether the chain is cut off or rewritten."
    ));
    Ok(Exit::Done)
}

fn write(out: &mut impl Write, chain: &str, linked: &Linked) -> io::Result<()> {
    writeln!(out, "{}", line::write(chain, linked)?)
}
