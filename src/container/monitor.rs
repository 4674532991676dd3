//! The process that stands beside each container, from its start to its end.
//!
//! It opens the sandbox, starts the container, carries its streams, serves its
//! ports, and writes down how it ended. It holds the container's lock: when it is
//! gone the lock is free, and the container died with it.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::signal::unix::SignalKind;

use super::control::{Channel, Order, Report};
use super::error::ContainerError;
use super::logs::LogWriter;
use super::ports::{self, Forwarding};
use super::remove;
use super::signal::{Handle, Process};
use super::spec::spec;
use super::start::{Relay, on_signals};
use super::state::{Container, State, Status, now};
use super::streams::{self, Ended};
use super::update::drop_group;
use crate::sandbox::{Io, Running, Sandbox};

/// The name it is started under.
pub(super) const NAME: &str = "kiln-monitor";

fn monitor_error(what: &'static str) -> impl Fn(std::io::Error) -> ContainerError {
    move |source| ContainerError::Monitor { what, source }
}

/// The monitor of the container in `folder`.
pub(super) fn main(folder: &Path) -> ExitCode {
    crate::sandbox::close_inherited();
    let Ok(channel) = Channel::from_stdin() else { return ExitCode::FAILURE };
    let channel = Arc::new(channel);
    // Ctrl-C in the terminal is for `run`, which passes it on.
    if rustix::process::setsid().is_err() {
        return ExitCode::FAILURE;
    }
    // Who asked may be gone by the time of a report: the state has it as well.
    match Live::begin(folder, &channel) {
        Ok(live) => {
            let _ = channel.send(&Report::Started, &[]);
            let _ = channel.send(&live.watch(), &[]);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let message = match Container::open(folder.to_path_buf()).and_then(|c| drop_group(&c)) {
                Ok(()) => error.to_string(),
                Err(also) => format!("{error}; {also}"),
            };
            let report = Report::Failed { message, code: error.exit_code() };
            let _ = channel.send(&report, &[]);
            ExitCode::FAILURE
        }
    }
}

/// What `run` sent to begin with.
struct Begin {
    lowers: Vec<PathBuf>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// The container's lock: held while the descriptor is open.
    hold: OwnedFd,
}

fn receive(channel: &Channel) -> Result<Begin, ContainerError> {
    let malformed =
        || monitor_error("hear from who started it")(std::io::ErrorKind::InvalidData.into());
    let first = channel.recv::<Order>().map_err(monitor_error("hear from who started it"))?;
    let Some((Order::Begin { lowers, streams }, fds)) = first else { return Err(malformed()) };
    let mut fds = fds.into_iter();
    let hold = fds.next().ok_or_else(malformed)?;
    let mut stream =
        |there: bool| if there { fds.next().ok_or_else(malformed).map(Some) } else { Ok(None) };
    let (stdin, stdout, stderr) = (stream(streams[0])?, stream(streams[1])?, stream(streams[2])?);
    Ok(Begin { lowers, stdin, stdout, stderr, hold })
}

/// A container that runs, with everything around it.
struct Live {
    container: Container,
    sandbox: Sandbox,
    running: Running,
    handle: Arc<Handle>,
    state: State,
    ended: Ended,
    pumps: [JoinHandle<std::io::Result<()>>; 2],
    forwarding: Option<Forwarding>,
    /// Open while nobody writes to it, so that it reads as a silent input.
    _stdin: Option<OwnedFd>,
    _signals: Relay,
    /// Kept to the very end of the process, when everything is written.
    _hold: OwnedFd,
}

impl Live {
    /// Starts the container. On an error nothing of it runs.
    fn begin(folder: &Path, channel: &Arc<Channel>) -> Result<Self, ContainerError> {
        let begin = receive(channel)?;
        let container = Container::open(folder.to_path_buf())?;
        let config = &container.config;
        let sandbox = Sandbox::open(config.sandbox)?;
        // On the host's network the container's ports are the host's already.
        let publish: &[_] = match config.network {
            super::NetworkMode::Host | super::NetworkMode::None => &[],
            super::NetworkMode::Private => &config.publish,
        };
        let listening = ports::listen(publish)?;
        let pipe = || {
            pipe_with(PipeFlags::CLOEXEC)
                .map_err(|error| monitor_error("make a pipe")(error.into()))
        };
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        let (stdin, open_stdin) = match begin.stdin {
            None if config.interactive => {
                let (reader, writer) = pipe()?;
                (Some(reader), Some(writer))
            }
            given => (given, None),
        };
        let (out_log, err_log) = LogWriter::pair(&container.file("log"))?;
        let ended = Ended::new().map_err(monitor_error("make an event"))?;
        let io = Io { stdin, stdout: Some(stdout), stderr: Some(stderr) };
        let running = sandbox.start(&spec(&container, begin.lowers), io)?;
        // From here on an error drops `running`, which kills the container.
        let wrong = "find the container's process";
        let handle = Handle::of(running.as_fd()).map_err(monitor_error(wrong))?;
        let process = i32::try_from(running.pid()).ok().and_then(|pid| Process::now(pid).ok());
        // One that ended at once may be gone, and its number another's.
        let gone = handle.wait(Duration::ZERO).map_err(monitor_error(wrong))?;
        let process = process.filter(|_| !gone);
        let ports = listening.bound();
        let forwarding = match listening.forward(handle.fd()) {
            Ok(forwarding) => forwarding,
            Err(_) if handle.wait(Duration::ZERO).unwrap_or(false) => None,
            Err(error) => return Err(monitor_error("publish the ports")(error)),
        };
        let state = State {
            status: Status::Running,
            process,
            started: Some(now()),
            ports,
            ..State::created()
        };
        container.record(&state)?;
        let handle = Arc::new(handle);
        let pumps = [
            streams::drain(out, out_log, begin.stdout, ended.clone()),
            streams::drain(err, err_log, begin.stderr, ended.clone()),
        ];
        obey(Arc::clone(channel), Arc::clone(&handle));
        let stop = (Arc::clone(&handle), config.stop_signal);
        let signals = on_signals(&[SignalKind::terminate(), SignalKind::interrupt()], move |_| {
            // The machine goes down, say: the container is asked to end first.
            let _ = stop.0.signal(stop.1);
        })
        .map_err(monitor_error("listen for signals"))?;
        Ok(Self {
            container,
            sandbox,
            running,
            handle,
            state,
            ended,
            pumps,
            forwarding,
            _stdin: open_stdin,
            _signals: signals,
            _hold: begin.hold,
        })
    }

    /// Waits for the end, writes it down and clears up.
    fn watch(self) -> Report {
        let Self {
            container,
            sandbox,
            running,
            handle,
            mut state,
            ended,
            pumps,
            forwarding,
            _stdin,
            _signals,
            _hold,
        } = self;
        let mut wrong = Vec::new();
        let code = match running.wait() {
            Ok(exit) => Some(exit.code()),
            Err(error) => {
                wrong.push(error.to_string());
                let _ = handle.signal(super::signal::KILL);
                None
            }
        };
        let out_of_memory = running.out_of_memory();
        drop(running);
        drop(forwarding);
        if let Err(error) = ended.ring() {
            wrong.push(error.to_string());
        }
        for pump in pumps {
            match pump.join() {
                Ok(Ok(())) => (),
                Ok(Err(error)) => wrong.push(format!("the log is not whole: {error}")),
                Err(_) => wrong.push("the log is not whole".to_owned()),
            }
        }
        if let Err(error) = drop_group(&container) {
            wrong.push(error.to_string());
        }
        state.status = Status::Exited;
        state.exit_code = code;
        state.out_of_memory = out_of_memory;
        state.finished = Some(now());
        state.error = if wrong.is_empty() { None } else { Some(wrong.join("; ")) };
        // A failure here shows as `lost`, which is then the truth.
        let _ = container.record(&state);
        if container.config.remove
            && let Err(error) = remove::wipe(&sandbox, &container.path)
        {
            state.error = Some(error.to_string());
            let _ = container.record(&state);
        }
        Report::Ended { code: code.unwrap_or(125), out_of_memory }
    }
}

/// Hands on the signals that `run` sends while it is attached.
fn obey(channel: Arc<Channel>, handle: Arc<Handle>) {
    thread::spawn(move || {
        while let Ok(Some((Order::Signal(number), _))) = channel.recv::<Order>() {
            if handle.signal(number).is_err() {
                break;
            }
        }
    });
}
