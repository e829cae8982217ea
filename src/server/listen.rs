//! Where a server listens: on a port, or on a unix socket of this machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

/// Connections that may wait to be accepted: a whole fleet reconnects at once.
const BACKLOG: i32 = 4096;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// On a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// On a socket in the file system.
    Unix {
        /// The socket's file.
        path: PathBuf,
        /// Who may connect, as the file's permission bits.
        mode: u32,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { path, mode: _ } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Accepts connections.
pub enum Listener {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "its drop is what it is for")] SocketFile,
    ),
}

/// A connection that is not of any runtime yet.
pub enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Listener {
    /// Listens. A connection over TCP ends once its peer has taken nothing of what it was sent for as long as `unacknowledged`.
    pub fn bind(address: &Address, unacknowledged: Duration) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => listen(*address, unacknowledged).map(Self::Tcp),
            Address::Unix { path, mode } => {
                let (listener, file) = listen_unix(path, *mode)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Where it listens: with the port that it took.
    pub fn address(&self, asked: &Address) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(..) => Ok(asked.clone()),
        }
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                stream.into_std().map(Accepted::Tcp)
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                stream.into_std().map(Accepted::Unix)
            }
        }
    }
}

/// Listens on a port.
fn listen(address: SocketAddr, unacknowledged: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listener. Over HTTP/1.1 nothing else ends one whose peer stops to read.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(unacknowledged))?;
    #[cfg(not(target_os = "linux"))]
    let _ = unacknowledged;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Listens on a socket in the file system. Nobody can connect before the file has its permissions.
fn listen_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    remove_abandoned(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::of(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    let listener = UnixListener::from_std(socket.into())?;
    Ok((listener, file))
}

/// Removes the socket that a process left which is gone. A file that is no socket, and a socket that somebody answers on, stay.
fn remove_abandoned(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file of that name that is not a socket",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

/// The file of a socket; removed when it is dropped, unless another has taken its place.
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            inode: std::fs::symlink_metadata(path)?.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the socket could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Listener> {
        let path = path.to_owned();
        Listener::bind(&Address::Unix { path, mode: 0o600 }, Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_sockets_file_is_only_its_owners_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_nobody_answers_on_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_in_use_and_a_file_of_somebody_elses_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (used, file) = (folder.path().join("used"), folder.path().join("file"));
        let listener = bind(&used).unwrap();
        assert_eq!(bind(&used).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        assert!(used.exists());
        drop(listener);
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(bind(&file).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }
}
