//! Unix sockets: a server that takes one connection at a time, again and again, or a client.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};

use super::pump::{Link, Pump};
use super::{OpenError, Waker};

/// A listening socket and the one who is connected.
struct Server {
    path: PathBuf,
    /// Device and inode of the socket file that was made for the listener.
    file: Option<(u64, u64)>,
    listener: UnixListener,
    connection: Option<UnixStream>,
}

impl Link for Server {
    fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.connection.is_none().then(|| self.listener.as_fd())
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(UnixStream::as_fd)
    }

    fn output(&self) -> Option<BorrowedFd<'_>> {
        self.input()
    }

    fn connect(&mut self) -> bool {
        // Somebody who hung up before we looked is nobody.
        let Ok((stream, _)) = self.listener.accept() else { return false };
        self.connection = stream.set_nonblocking(true).is_ok().then_some(stream);
        self.connection.is_some()
    }

    fn input_lost(&mut self) {
        self.connection = None;
    }

    fn output_lost(&mut self) {
        self.connection = None;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Somebody may have removed it before, and another program may listen there now. The number cannot have been given to another
        // file: the listener still holds its own.
        if self.file.is_some() && file_number(&self.path) == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of the file at `path`.
fn file_number(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// One who connects, and tries again where told to.
struct Client {
    path: PathBuf,
    connection: Option<UnixStream>,
    reconnect: Option<Duration>,
    retry_at: Option<Instant>,
}

impl Client {
    fn lost(&mut self) {
        self.connection = None;
        self.retry_at = self.reconnect.map(|pause| Instant::now() + pause);
    }
}

impl Link for Client {
    fn input(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(UnixStream::as_fd)
    }

    fn output(&self) -> Option<BorrowedFd<'_>> {
        self.input()
    }

    fn connect(&mut self) -> bool {
        let connect = || {
            let stream = UnixStream::connect(&self.path)?;
            stream.set_nonblocking(true)?;
            io::Result::Ok(stream)
        };
        if let Ok(stream) = connect() {
            self.connection = Some(stream);
            self.retry_at = None;
            true
        } else {
            self.lost();
            false
        }
    }

    fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    fn input_lost(&mut self) {
        self.lost();
    }

    fn output_lost(&mut self) {
        self.lost();
    }
}

/// A listening socket that only its owner may connect to, from the first instant on. A socket file that nobody listens on
/// any more is replaced.
///
/// # Errors
/// Where the path is taken by a live program or by another kind of file, or the host refuses.
pub fn listen_privately(path: &Path) -> Result<UnixListener, OpenError> {
    let host = |source: io::Error| OpenError::host(path, source);
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(OpenError::NotASocket(path.to_owned()));
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(host)?,
            _ => return Err(OpenError::InUse(path.to_owned())),
        }
    }
    let open = || -> io::Result<UnixListener> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let owner_only = Mode::RUSR | Mode::WUSR;
        // On Linux the file takes the rights of the descriptor, so that it is never open to others.
        rustix::fs::fchmod(&socket, owner_only)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::fs::chmod(path, owner_only)?;
        listen(&socket, 4)?;
        Ok(UnixListener::from(socket))
    };
    open().map_err(host)
}

/// Listens at `path` for one peer at a time; `wait`: comes back only when the first has connected.
///
/// # Errors
/// See [`listen_privately`].
pub fn server(path: &Path, wait: bool, waker: Waker) -> Result<Pump, OpenError> {
    let listener = listen_privately(path)?;
    let mut server = Server { path: path.to_owned(), file: file_number(path), listener, connection: None };
    let mut start = || -> io::Result<()> {
        while wait && server.connection.is_none() {
            server.connect();
        }
        server.listener.set_nonblocking(true)
    };
    start().map_err(|source| OpenError::host(path, source))?;
    Pump::start("socket", server, waker).map_err(|source| OpenError::host(path, source))
}

/// Connects to a listening socket. `reconnect`: after a loss (and where nobody listens yet) tries again after this time.
///
/// # Errors
/// Where nobody listens and `reconnect` is `None`, or the host refuses.
pub fn client(path: &Path, reconnect: Option<Duration>, waker: Waker) -> Result<Pump, OpenError> {
    let host = |source| OpenError::host(path, source);
    let mut client = Client { path: path.to_owned(), connection: None, reconnect, retry_at: None };
    match UnixStream::connect(path) {
        Ok(stream) => {
            stream.set_nonblocking(true).map_err(host)?;
            client.connection = Some(stream);
        }
        Err(_) if reconnect.is_some() => client.lost(),
        Err(error) => return Err(host(error)),
    }
    Pump::start("socket", client, waker).map_err(host)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::chardev::{BUFFER, CharBackend};

    const LONG: Duration = Duration::from_secs(20);

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("hako-socket-{name}-{}", std::process::id()))
    }

    fn read_some(backend: &mut dyn CharBackend, bell: &crossbeam_channel::Receiver<()>, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 100];
        while all.len() < count {
            match backend.read(&mut buffer) {
                0 => bell.recv_timeout(LONG).unwrap(),
                n => all.extend(&buffer[..n]),
            }
        }
        all
    }

    #[test]
    fn a_server_is_private_serves_one_after_the_other_and_cleans_up() {
        let path = path("server");
        let (waker, bell) = Waker::bell();
        let mut backend = server(&path, false, waker).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(backend.connection(), 0);
        assert_eq!(backend.write(&vec![0; 3 * BUFFER]), 3 * BUFFER, "nobody there: swallowed");
        for _ in 1..=2 {
            let mut peer = UnixStream::connect(&path).unwrap();
            peer.write_all(b"hello").unwrap();
            assert_eq!(read_some(&mut backend, &bell, 5), b"hello");
            assert_eq!(backend.write(b"you"), 3);
            let mut answer = [0; 3];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"you");
            drop(peer);
            while backend.connection() != 0 {
                let _ = bell.recv_timeout(Duration::from_millis(20));
            }
        }
        assert!(matches!(listen_privately(&path), Err(OpenError::InUse(_))));
        drop(backend);
        assert!(!path.exists());
    }

    #[test]
    fn the_socket_of_a_newer_program_at_the_same_path_stays() {
        let path = path("newer");
        let old = server(&path, false, Waker::bell().0).unwrap();
        fs::remove_file(&path).unwrap();
        let new = server(&path, false, Waker::bell().0).unwrap();
        drop(old);
        assert!(path.exists(), "it is the newer one's");
        UnixStream::connect(&path).unwrap();
        drop(new);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_socket_is_replaced_but_no_other_file() {
        let path = path("stale");
        drop(UnixListener::bind(&path).unwrap());
        drop(listen_privately(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen_privately(&path), Err(OpenError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_client_finds_a_server_that_comes_later_and_comes_again() {
        let path = path("client");
        let (waker, bell) = Waker::bell();
        assert!(client(&path, None, waker.clone()).is_err());
        let mut backend = client(&path, Some(Duration::from_millis(10)), waker).unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().unwrap();
            peer.write_all(b"hi").unwrap();
            assert_eq!(read_some(&mut backend, &bell, 2), b"hi");
        }
        fs::remove_file(&path).unwrap();
    }
}
