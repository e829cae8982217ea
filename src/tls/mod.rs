//! TLS: certificates and keys read from files, checked before anything depends on them, and read again when they change.
//!
//! | file | what |
//! |---|---|
//! | `pem`, `error` | what is read of a file, and what can be wrong with it |
//! | `server` | what a server shows its callers, and whose certificates it takes |
//! | `reload` | the same, looked at again every two seconds |
//! | `expiry` | when it is time to say that a certificate ends |
//! | `client` | whom a client trusts, what it shows, and how it connects |
//! | `name` | whose certificate it is: the name that was verified, and the fingerprint |
//!
//! Architecture invariant: no byte of a file is in an error, a log line or anything that can be printed: one of the files is a
//! private key, and another may be one by mistake.

mod client;
mod error;
mod expiry;
mod name;
mod pem;
mod reload;
mod server;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use client::{Connector, Files as ClientFiles, endpoint};
pub use error::{Error, Part, Refused};
pub use name::Holder;
pub use reload::Certificates;
pub use server::{ClientCertificates, Demand, Files as ServerFiles};

/// Makes aws-lc the process's provider, for libraries that ask for one. To be called first.
pub fn install_provider() {
    // A second call changes nothing.
    let _ = aws_lc_rs::default_provider().install_default();
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
