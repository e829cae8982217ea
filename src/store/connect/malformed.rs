//! What is wrong with a connection string.

/// What is wrong with a connection string, so that it goes on after the name of what holds it. Never shows any part of it: the
/// password is in there, and may be where nobody looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error(
        "is not a connection string that can be read; write postgres://user:password@host:5432/database, with special \
         characters percent-encoded"
    )]
    Syntax,
    /// It is another database's.
    #[error("does not begin with postgres:// or postgresql://, as in postgres://user:password@host:5432/database")]
    Scheme,
    /// It can be read in more than one way.
    #[error(
        "holds characters that could be read in more than one way; write them percent-encoded: %40 for @, %2F for /, %3F for ?, \
         %23 for #, %3D for =, %20 for a space"
    )]
    Unencoded,
    /// It does not say where.
    #[error("names no host that could be one; write postgres://user:password@host:5432/database")]
    Host,
    /// Hosts, addresses and ports are not as many as each other.
    #[error("does not name as many ports, or addresses, as hosts")]
    Counts,
    /// An option that is not known.
    #[error("holds an option that Halyard does not know; docs/database.md lists those that it does")]
    Option,
    /// An option is there twice.
    #[error("says something twice: each option, the host and the port among them, may be given once")]
    Repeated,
    /// An option of TLS is inside of another option's value.
    #[error(
        "holds an option of TLS inside of another option's value; separate options with & in a URL, with spaces otherwise"
    )]
    Swallowed,
    /// No such `sslmode`.
    #[error("has an sslmode that is none of disable, prefer, require, verify-ca and verify-full")]
    Mode,
    /// `sslmode=allow`.
    #[error("has sslmode=allow, which would rather not encrypt; write prefer, or better verify-full")]
    Allow,
    /// `sslnegotiation` with a mode that may go without TLS, or no such negotiation.
    #[error("has an sslnegotiation that is neither postgres nor, with sslmode=require or stronger, direct")]
    Negotiation,
    /// A mode that verifies, and nothing to verify by.
    #[error(
        "asks to verify PostgreSQL's certificate and does not say whom to trust; add sslrootcert with the file of the authority's \
         certificate, or sslrootcert=system for the authorities that this machine trusts"
    )]
    NoAuthority,
    /// Something to verify by, and a mode that does not.
    #[error("has an sslrootcert that its sslmode makes no use of; write sslmode=verify-full")]
    UnusedAuthority,
    /// Any name of any public authority would do.
    #[error(
        "trusts every authority of this machine without verifying the name; write sslmode=verify-full with sslrootcert=system"
    )]
    WeakSystem,
    /// No authorities are in there.
    #[error(
        "has an sslrootcert that cannot be used: it must name a readable file with certificates in PEM, or be system"
    )]
    Authorities,
    /// The machine trusts nobody.
    #[error(
        "has sslrootcert=system, but no authorities are found on this machine; install ca-certificates, or name a file"
    )]
    NoSystem,
    /// A certificate of ours that cannot be used.
    #[error(
        "has an sslcert or sslkey that cannot be used: both must be given, name readable files in PEM, the key not encrypted, and \
         belong together; with sslmode=disable there is no use for them"
    )]
    Identity,
    /// Encryption is asked for, and cannot be had on a socket.
    #[error("names unix sockets, where there is no TLS, beside hosts with which sslmode asks for it")]
    Mixed,
    /// It has one password, and there is another.
    #[error("holds a password, and another one is given beside it; leave one of them out")]
    Passwords,
}
