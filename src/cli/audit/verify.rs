//! `halyard audit verify`: every chain of a database, one of them, or an export. One line for each, that of a broken one with
//! the first place that is not what was written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use anyhow::Context as _;

use super::which;
use crate::cli::Exit;
use crate::config::Chains;
use crate::domain::audit::verify::{Break, Flaw, Verdict, Verifier};
use crate::domain::audit::{Head, line};
use crate::store::audit::{self, Chain};
use crate::store::{PageRequest, Store};

/// Chains that are listed at a time.
const PAGE: usize = 1_000;

/// Verifies chains of a database.
pub(super) async fn database(store: &Store, chains: Chains, out: &mut impl Write) -> anyhow::Result<Exit> {
    match chains {
        Chains::All => all(store, out).await,
        Chains::One { chain, kept } => {
            let name = store.audit_chain(which(&chain)).await?;
            let verdict = store.verify_chain(&name, kept).await?;
            tell(out, &format!("chain {name}"), &verdict)
        }
    }
}

async fn all(store: &Store, out: &mut impl Write) -> anyhow::Result<Exit> {
    let (mut exit, mut after) = (Exit::Done, String::new());
    loop {
        let page = store.list_chains(&PageRequest { size: PAGE, after }).await?;
        for chain in &page.items {
            let verdict = store.verify_chain(&chain.name, None).await?;
            let told = tell(out, &describe(chain), &verdict)?;
            if exit == Exit::Done {
                exit = told;
            }
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(exit),
        }
    }
}

fn describe(chain: &Chain) -> String {
    let Chain {
        name,
        project,
        deleted,
        head: _,
    } = chain;
    match (name.as_str(), deleted) {
        (audit::INSTANCE, _) => format!("chain {name}, of the installation"),
        (_, false) => format!("chain {name}, of project {project}"),
        (_, true) => format!("chain {name}, of project {project}, which is deleted"),
    }
}

/// Verifies an export.
pub(super) fn file(path: &Path, kept: Option<Head>, out: &mut impl Write) -> anyhow::Result<Exit> {
    let about = || format!("the file {}", path.display());
    let file = File::open(path).with_context(about)?;
    let verdict = lines(BufReader::new(file), kept).with_context(about)?;
    tell(out, &path.display().to_string(), &verdict)
}

fn lines(file: impl BufRead, kept: Option<Head>) -> io::Result<Verdict> {
    let (mut verifier, mut chain) = (Verifier::new(kept), None);
    for text in file.split(b'\n') {
        if let Err(broken) = follow(&mut verifier, &mut chain, &text?) {
            return Ok(Verdict::Broken(broken));
        }
    }
    // An export holds an entry at least; a file without one was cut off.
    if chain.is_none() {
        return Ok(Verdict::Broken(verifier.here(Flaw::Missing)));
    }
    Ok(verifier.finish(None))
}

/// Goes on to the entry of a line, of the chain that the first line names.
fn follow(verifier: &mut Verifier, chain: &mut Option<String>, text: &[u8]) -> Result<(), Break> {
    let read = std::str::from_utf8(text).ok().and_then(line::read);
    let (of, linked) = read.ok_or_else(|| verifier.here(Flaw::Unreadable))?;
    if *chain.get_or_insert_with(|| of.clone()) != of {
        return Err(verifier.here(Flaw::Detached));
    }
    verifier.follow(&linked)
}

fn tell(out: &mut impl Write, what: &str, verdict: &Verdict) -> anyhow::Result<Exit> {
    match verdict {
        Verdict::Intact(head) => {
            let Head { sequence, hash: _ } = head;
            writeln!(out, "{what}: intact, {sequence} entries, head {head}")?;
            Ok(Exit::Done)
        }
        Verdict::Broken(broken) => {
            writeln!(out, "{what}: broken, {broken}")?;
            Ok(Exit::Failed)
        }
    }
}
