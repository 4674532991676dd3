//! SIGINT, SIGTERM and SIGHUP: the first asks the work to stop and to clear up
//! after itself, the second ends the process at once.

use std::io;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Which signal came, if one did. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Interrupt {
    came: watch::Receiver<Option<i32>>,
}

impl Interrupt {
    /// Begins to listen, on a runtime's own threads.
    pub(super) fn listen(on: &Handle) -> io::Result<Self> {
        let (tell, came) = watch::channel(None);
        let _inside = on.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hup = signal(SignalKind::hangup())?;
        on.spawn(async move {
            loop {
                let number = tokio::select! {
                    _ = int.recv() => SignalKind::interrupt(),
                    _ = term.recv() => SignalKind::terminate(),
                    _ = hup.recv() => SignalKind::hangup(),
                }
                .as_raw_value();
                if tell.borrow().is_some() {
                    end_now(128 + number);
                }
                tell.send_replace(Some(number));
            }
        });
        Ok(Self { came })
    }

    /// The signal that came.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        *self.came.borrow()
    }

    /// Waits for a signal.
    pub async fn wait(&self) -> i32 {
        let mut came = self.came.clone();
        loop {
            if let Some(number) = *came.borrow_and_update() {
                return number;
            }
            if came.changed().await.is_err() {
                // The listener lives as long as the runtime that polls this.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the user asked a second time: no clearing up")]
fn end_now(code: i32) -> ! {
    std::process::exit(code)
}
