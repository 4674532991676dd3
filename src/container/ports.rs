//! Published ports: the monitor listens on the host, and for each connection
//! makes one inside the container's network to the same port of its loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener as Listener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::connector::Connector;
use super::error::ContainerError;
use super::request::Port;
use crate::net;

/// How long open connections may go on after the container has ended.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Ports of the host that are ours, before the container runs.
#[derive(Debug)]
pub(super) struct Listening {
    sockets: Vec<(TcpListener, Port)>,
}

/// Takes the ports, so that one that is in use is known before the start.
pub(super) fn listen(ports: &[Port]) -> Result<Listening, ContainerError> {
    let mut sockets = Vec::new();
    for port in ports {
        let wrong = |source| ContainerError::Listen { port: port.clone(), source };
        let socket = bind(port).map_err(wrong)?;
        socket.set_nonblocking(true).map_err(wrong)?;
        let host = socket.local_addr().map_err(wrong)?.port();
        sockets.push((socket, Port { host, ..port.clone() }));
    }
    Ok(Listening { sockets })
}

fn bind(port: &Port) -> io::Result<TcpListener> {
    let at = |ip: IpAddr| net::listen(SocketAddr::new(ip, port.host));
    match port.host_ip {
        Some(ip) => at(ip),
        // The IPv6 wildcard takes IPv4 too, where there is IPv6 at all.
        None => match at(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                at(Ipv4Addr::UNSPECIFIED.into())
            }
            other => other,
        },
    }
}

impl Listening {
    /// The ports with the numbers that the host chose.
    pub(super) fn bound(&self) -> Vec<Port> {
        self.sockets.iter().map(|(_, port)| port.clone()).collect()
    }

    /// Serves the ports for a container's process until it is dropped.
    pub(super) fn forward(self, process: &impl AsFd) -> io::Result<Option<Forwarding>> {
        if self.sockets.is_empty() {
            return Ok(None);
        }
        let connector = Connector::start(process.as_fd())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("ports".into()).spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            let connector = Rc::new(connector);
            let accepting: Vec<_> = self
                .sockets
                .into_iter()
                .map(|(socket, port)| {
                    tasks.spawn_local(accept(socket, port.container, Rc::clone(&connector)))
                })
                .collect();
            tasks.block_on(&runtime, async {
                // An error is the drop of the other end: that too is the order to stop.
                let _ = stopped.await;
                accepting.iter().for_each(tokio::task::JoinHandle::abort);
                // What the container sent last is still on its way. Each open
                // connection holds the connector.
                let empty = async {
                    while Rc::strong_count(&connector) > 1 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let _ = tokio::time::timeout(LAST_WORDS, empty).await;
            });
        })?;
        Ok(Some(Forwarding { stop: Some(stop), thread: Some(thread) }))
    }
}

/// Ports being served.
#[derive(Debug)]
pub(super) struct Forwarding {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panics for nobody; the sockets are closed either way.
            let _ = thread.join();
        }
    }
}

async fn accept(socket: TcpListener, port: u16, connector: Rc<Connector>) {
    let Ok(listener) = Listener::from_std(socket) else { return };
    loop {
        match listener.accept().await {
            Ok((outer, _)) => {
                let connector = Rc::clone(&connector);
                tokio::task::spawn_local(async move {
                    // Either side may break off; the other then sees the end.
                    let _ = carry(outer, port, &connector).await;
                });
            }
            // Too many open files, or a connection that was gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn carry(mut outer: TcpStream, port: u16, connector: &Connector) -> io::Result<()> {
    let mut inner = match connect(connector.socket(false)?, Ipv4Addr::LOCALHOST.into(), port).await
    {
        Ok(inner) => inner,
        // A service may listen on IPv6 only.
        Err(_) => connect(connector.socket(true)?, Ipv6Addr::LOCALHOST.into(), port).await?,
    };
    outer.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut outer, &mut inner).await?;
    Ok(())
}

async fn connect(socket: OwnedFd, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.connect(SocketAddr::new(ip, port)).await
}
