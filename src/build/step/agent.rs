//! An ssh agent's socket for one step: a socket of kiln's own, which passes on what
//! is said to the agent of whoever builds. The agent sees kiln as its peer, and
//! any user of the step may speak to it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Passes on until it is dropped. Connections end with the step's processes.
pub(super) struct Agent {
    socket: PathBuf,
    done: Arc<AtomicBool>,
}

impl Agent {
    /// Listens at `folder/name`; `folder` is closed to other users.
    pub(super) fn listen(folder: &Path, name: &str, to: &Path) -> io::Result<Self> {
        // An agent that is not there is told now, not within the step.
        drop(UnixStream::connect(to)?);
        let socket = folder.join(name);
        let listener = UnixListener::bind(short(folder, name)?.1)?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
        let done = Arc::new(AtomicBool::new(false));
        let (stop, to) = (done.clone(), to.to_owned());
        std::thread::Builder::new().name("ssh agent".into()).spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                // One that cannot be served is closed, which the client sees.
                if let Ok(agent) = UnixStream::connect(&to) {
                    pass(client, agent);
                }
            }
        })?;
        Ok(Self { socket, done })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        // Wakes the listener, which sees that it is done.
        let (Some(folder), Some(name)) = (self.socket.parent(), self.socket.file_name()) else {
            return;
        };
        if let Ok((_folder, path)) = short(folder, &name.to_string_lossy()) {
            drop(UnixStream::connect(path));
        }
    }
}

/// A path that fits into a socket's address, whatever the folder's is: it holds
/// as long as the file does.
fn short(folder: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let folder = File::open(folder)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()));
    Ok((folder, path))
}

fn pass(client: UnixStream, agent: UnixStream) {
    let copies = (client.try_clone(), agent.try_clone());
    let (Ok(from_client), Ok(to_agent)) = copies else { return };
    one_way(from_client, to_agent);
    one_way(agent, client);
}

fn one_way(mut from: UnixStream, mut to: UnixStream) {
    let copy = move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    };
    let _ = std::thread::Builder::new().name("ssh agent".into()).spawn(copy);
}
