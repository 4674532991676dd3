//! Starting a container, and staying attached to one.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::control::{Channel, Order, Report};
use super::create;
use super::error::ContainerError;
use super::name;
use super::remove;
use super::request::{NetworkMode, RunRequest};
use super::signal::KILL;
use super::state::{self, Container, Hold};
use super::{monitor, streams};
use crate::progress::Progress;
use crate::rootfs;
use crate::sandbox::{Io, Sandbox, binfmt};
use crate::store::Store;

/// Longer than anybody looks at the lock without being a monitor.
const GLANCE: Duration = Duration::from_millis(200);

/// What came of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs in the background.
    Started { id: String, name: String },
    /// It ran in the foreground and ended with this code.
    Ended { code: i32 },
}

/// Runs an image. In the foreground `io` is what the container's streams are
/// connected to (its input only if the request is interactive), and signals that
/// ask this process to end are handed to the container: once this was called,
/// they have no other effect. The third INT or TERM kills it.
///
/// # Errors
/// If the container cannot be made or started; nothing of it is left then.
pub fn run(
    ask: &RunRequest,
    store: &Store,
    io: Io,
    progress: &Progress,
) -> Result<Outcome, ContainerError> {
    // What can be refused is refused before the work.
    let network = create::network(ask)?;
    if network == NetworkMode::Host && !ask.publish.is_empty() {
        progress.note("on the host's network all ports are published: -p has no effect");
    }
    let platform = ask.image.platform();
    // An image that does not say what it is for is tried.
    if !platform.architecture.is_empty()
        && let Err(why) = binfmt::can_run(&platform)
    {
        let (image, platform) = (ask.image_name.clone(), Box::new(platform));
        return Err(ContainerError::Foreign { image, platform, why });
    }
    let sandbox = Sandbox::open(ask.sandbox)?;
    sandbox.choice().into_iter().for_each(|line| progress.detail(line));
    let layers = ask.image.layers();
    rootfs::unpack_unread(store, &sandbox, layers, progress)?;
    let (account, _) = rootfs::standing(store, layers, create::user(ask))?;
    let config = create::resolve(ask, create::random(name::new_id())?, account)?;
    let lowers = rootfs::unpacked(store, &sandbox, layers, progress)?;
    let (container, hold) = create::create(store, config)?;
    let attach = if ask.detach { None } else { Some(io) };
    let outcome = launch(&container, hold, lowers, attach, progress);
    if outcome.is_err()
        && let Err(error) = remove::wipe(&sandbox, &container.path)
    {
        progress.warn(format!("container {} could not be cleared: {error}", container.config.id));
    }
    outcome
}

/// Starts a container that has ended once more, in the background, with what it
/// had changed.
///
/// # Errors
/// If it runs, or cannot be started.
pub fn start(store: &Store, name: &str, progress: &Progress) -> Result<Outcome, ContainerError> {
    let container = state::find(store, name)?;
    let Some(hold) = container.hold_within(GLANCE)? else {
        return Err(ContainerError::Running(container.name()));
    };
    let sandbox = Sandbox::open(container.config.sandbox)?;
    let lowers = rootfs::unpacked(store, &sandbox, &container.config.layers, progress)?;
    launch(&container, hold, lowers, None, progress)
}

/// Starts the monitor and waits until it says how that went; attached, until
/// the container's end.
fn launch(
    container: &Container,
    hold: Hold,
    lowers: Vec<PathBuf>,
    attach: Option<Io>,
    progress: &Progress,
) -> Result<Outcome, ContainerError> {
    let wrong = |what| move |source| ContainerError::Monitor { what, source };
    let (channel, theirs) = Channel::pair().map_err(wrong("make a socket"))?;
    let channel = Arc::new(channel);
    let attached = attach.is_some();
    let io = attach.unwrap_or_default();
    // Before the monitor exists: a Ctrl-C from now on is the container's.
    let _relay = if attached {
        Some(relay(Arc::clone(&channel)).map_err(wrong("listen for signals"))?)
    } else {
        None
    };
    let stdin = match io.stdin.filter(|_| container.config.interactive) {
        // Through a pipe: the container must not hold the terminal itself, and
        // what it does not read by its end must stay there.
        Some(stdin) => Some(streams::feed(stdin).map_err(wrong("make a pipe"))?),
        None => None,
    };
    let program = crate::sandbox::helper();
    let mut child = Command::new(&program)
        .arg0(monitor::NAME)
        .arg(&container.path)
        .current_dir("/")
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(wrong("start the container's monitor"))?;
    let streams = [&stdin, &io.stdout, &io.stderr];
    let begin = Order::Begin { lowers, streams: streams.map(Option::is_some) };
    let fds: Vec<BorrowedFd<'_>> = std::iter::once(hold.0.as_fd())
        .chain(streams.into_iter().flatten().map(|fd| fd.as_fd()))
        .collect();
    channel.send(&begin, &fds).map_err(wrong("talk to the container's monitor"))?;
    drop(fds);
    // The monitor's copies are the ones that count from now on.
    drop((hold, stdin, io.stdout, io.stderr));
    match hear(&channel, &mut child)? {
        Report::Started if !attached => {
            // Reaps it if this process outlives the container.
            thread::spawn(move || child.wait());
            let (id, name) = (container.config.id.clone(), container.name());
            Ok(Outcome::Started { id, name })
        }
        Report::Started => match hear(&channel, &mut child)? {
            Report::Ended { code, out_of_memory } => {
                // It has done everything but to end.
                let _ = child.wait();
                // `update` may have changed it since.
                let limit = container.config.limits.memory;
                let limit = limit.map_or_else(String::new, |limit| format!(" {limit}"));
                if out_of_memory {
                    progress.warn(format!(
                        "a process of {} was killed: it used more than --memory{limit}",
                        container.config.name
                    ));
                }
                Ok(Outcome::Ended { code })
            }
            other => Err(unexpected(&other)),
        },
        Report::Failed { message, code } => {
            let _ = child.wait();
            Err(ContainerError::Start { message, code })
        }
        other @ Report::Ended { .. } => Err(unexpected(&other)),
    }
}

fn unexpected(report: &Report) -> ContainerError {
    ContainerError::MonitorDied(format!("it said {report:?}"))
}

fn hear(channel: &Channel, child: &mut Child) -> Result<Report, ContainerError> {
    let wrong =
        |source| ContainerError::Monitor { what: "hear from the container's monitor", source };
    match channel.recv::<Report>().map_err(wrong)? {
        Some((report, _)) => Ok(report),
        None => Err(ContainerError::MonitorDied(child.wait().map_err(wrong)?.to_string())),
    }
}

/// Hands signals to the monitor, which hands them to the container.
fn relay(channel: Arc<Channel>) -> io::Result<Relay> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let mut asked = 0;
    on_signals(&kinds, move |kind| {
        let ends = [SignalKind::interrupt(), SignalKind::terminate()].contains(&kind);
        asked += u32::from(ends);
        let number = if ends && asked >= 3 { KILL } else { kind.as_raw_value() };
        // If the monitor is gone, so is the container, and `hear` says so.
        let _ = channel.send(&Order::Signal(number), &[]);
    })
}

/// A thread that answers signals; it ends when this is dropped.
pub(super) struct Relay {
    _stop: tokio::sync::mpsc::Sender<SignalKind>,
}

/// Calls `act` on a thread of its own for each signal of these kinds.
pub(super) fn on_signals(
    kinds: &[SignalKind],
    mut act: impl FnMut(SignalKind) + Send + 'static,
) -> io::Result<Relay> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (send, mut receive) = tokio::sync::mpsc::channel(8);
    let weak = send.downgrade();
    let entered = runtime.enter();
    for kind in kinds.iter().copied() {
        let mut signals = signal(kind)?;
        let send = weak.clone();
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                let Some(send) = send.upgrade() else { break };
                if send.send(kind).await.is_err() {
                    break;
                }
            }
        });
    }
    drop(entered);
    thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            while let Some(kind) = receive.recv().await {
                act(kind);
            }
        });
    })?;
    Ok(Relay { _stop: send })
}
