//! What can be wrong with the files of TLS, in words that name the file and say what to do.
//!
//! What the libraries say of a file is not repeated: they quote it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Which of the files it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The certificate, with those between it and its authority.
    Certificate,
    /// The certificate's private key.
    Key,
    /// The certificates of the authorities whose certificates are taken.
    Authorities,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {flaw}", path.display())]
pub struct Error {
    /// Which of the files.
    pub part: Part,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub flaw: Flaw,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Flaw {
    /// It cannot be read.
    #[error("it cannot be read ({}); name a file that this user may read", .0.kind())]
    Unreadable(#[source] io::Error),
    /// It is too large to be what it should be.
    #[error("it has more than {0} bytes; name the file that holds nothing but the PEM blocks")]
    TooLarge(usize),
    /// There is no certificate in it.
    #[error("it holds no certificate; it has to be PEM, with -----BEGIN CERTIFICATE----- before each one")]
    NoCertificate,
    /// A certificate in it makes no sense.
    #[error("its certificate number {0} cannot be read; is it cut off, or not X.509?")]
    Certificate(usize),
    /// There is no key in it.
    #[error("it holds no private key; it has to be PEM, with -----BEGIN PRIVATE KEY----- before it")]
    NoKey,
    /// There are several keys in it.
    #[error("it holds more than one private key; leave only the one of the certificate")]
    SeveralKeys,
    /// The key has a pass phrase.
    #[error(
        "its private key is encrypted, and nobody can be asked for the pass phrase; write it in clear with: openssl pkey"
    )]
    EncryptedKey,
    /// The key makes no sense.
    #[error(
        "its private key cannot be used; it has to be RSA of at least 2048 bits, ECDSA on P-256, P-384 or P-521, or Ed25519"
    )]
    Key,
    /// The key is of another certificate.
    #[error("its private key does not belong to the certificate in {}; was only one of the two renewed?", .0.display())]
    Mismatch(PathBuf),
    /// The authorities cannot verify anything.
    #[error("its certificates cannot be used to verify others; name those of the authorities")]
    Authorities,
}

/// Everything that is wrong.
#[derive(Debug)]
pub struct Refused(pub Vec<Error>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refused {}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// Both, or everything that is wrong with either.
pub(super) fn both<A, B>(one: Result<A, Refused>, other: Result<B, Refused>) -> Result<(A, B), Refused> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(mut one), Err(other)) => {
            one.0.extend(other.0);
            Err(one)
        }
        (Err(refused), Ok(_)) | (Ok(_), Err(refused)) => Err(refused),
    }
}
