//! What the commands about the audit log are configured with.

use std::path::PathBuf;

use super::database::{self, Database};
use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::values;
use crate::domain::audit::Head;
use crate::domain::invalid::Violations;
use crate::domain::key;

/// Prove the audit log, or hand it out.
#[derive(Debug)]
pub enum Audit {
    /// `halyard audit verify`: of a database.
    Verify {
        /// Which database.
        database: Database,
        /// Which chains.
        chains: Chains,
    },
    /// `halyard audit verify --file`: of an export.
    VerifyFile {
        /// The export.
        file: PathBuf,
        /// What was the chain's head once. `None`: the file is only compared with itself.
        kept: Option<Head>,
    },
    /// `halyard audit export`: a chain, as lines of JSON.
    Export {
        /// Which database.
        database: Database,
        /// Which chain.
        chain: Chain,
    },
}

/// Which chains to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chains {
    /// All that there are.
    All,
    /// One.
    One {
        /// Which.
        chain: Chain,
        /// What was its head once. `None`: it is only compared with itself.
        kept: Option<Head>,
    },
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chain {
    /// The installation's.
    Instance,
    /// A project's, or of the last that had this key.
    Project(key::Project),
    /// The one of this name.
    Named(String),
}

const PROJECT: Setting = Setting::value(
    "project",
    "KEY",
    "The chain of this project; if it is gone, of the last that had the key",
)
.argument_only();
const INSTANCE: Setting = Setting::switch("instance", "The chain of the installation").argument_only();
const CHAIN: Setting = Setting::value("chain", "NAME", "The chain of this name").argument_only();
const HEAD: Setting = Setting::value(
    "head",
    "SEQUENCE:HASH",
    "What was the chain's head once, to find out whether it was cut off or rewritten since",
)
.argument_only();
const FILE: Setting = Setting::value("file", "PATH", "Verify an export in place of a database").argument_only();

/// The settings of `audit verify` beside the database's.
pub(super) const VERIFY: &[Setting] = &[PROJECT, INSTANCE, CHAIN, HEAD, FILE];
/// The settings of `audit export` beside the database's.
pub(super) const EXPORT: &[Setting] = &[PROJECT, INSTANCE, CHAIN];

pub(super) fn verify(reader: &mut Reader<'_>) -> Result<Audit, Noted> {
    let chain = chain(reader);
    let kept = reader.optional(HEAD, |text| text.parse().map_err(|wrong: Violations| wrong.to_string()));
    let file = reader.optional(FILE, values::path);
    let (chain, kept, file) = (chain?, kept?, file?);
    if let Some(file) = file {
        return match chain {
            None => Ok(Audit::VerifyFile { file, kept }),
            Some(_) => Err(reader.refuse(FILE.argument(), "is an export of one chain; leave out which")),
        };
    }
    let database = database::read(reader)?;
    let chains = match (chain, kept) {
        (Some(chain), kept) => Chains::One { chain, kept },
        (None, None) => Chains::All,
        (None, Some(_)) => {
            let description = "is the head of one chain; say which with --project, --instance or --chain";
            return Err(reader.refuse(HEAD.argument(), description));
        }
    };
    Ok(Audit::Verify { database, chains })
}

pub(super) fn export(reader: &mut Reader<'_>) -> Result<Audit, Noted> {
    let chain = chain(reader).and_then(|chain| {
        chain.ok_or_else(|| {
            let description = "is missing; or give --instance for the chain of the installation, or --chain";
            reader.refuse(PROJECT.argument(), description)
        })
    });
    let database = database::read(reader);
    Ok(Audit::Export {
        database: database?,
        chain: chain?,
    })
}

/// The chain that is asked for. `None`: none in particular.
fn chain(reader: &mut Reader<'_>) -> Result<Option<Chain>, Noted> {
    let project = reader.optional(PROJECT, |text| {
        key::Project::new(text).map_err(|wrong| wrong.to_string())
    });
    let instance = reader.switch(INSTANCE);
    let named = reader.optional(CHAIN, |text| Ok(text.to_owned()));
    let asked = [
        project?.map(Chain::Project),
        instance?.then_some(Chain::Instance),
        named?.map(Chain::Named),
    ];
    let mut asked = asked.into_iter().flatten();
    let chain = asked.next();
    if asked.next().is_some() {
        let description = "and --instance and --chain each name a chain; give one of them";
        return Err(reader.refuse(PROJECT.argument(), description));
    }
    Ok(chain)
}
