//! Copying that can be watched and stopped.

use std::cell::Cell;
use std::io::{Read, Write};

use super::OutputError;
use crate::progress::Task;

/// What long work tells, and whether it shall go on.
pub struct Work<'a> {
    task: &'a Task,
    stop: &'a dyn Fn() -> bool,
    done: Cell<u64>,
    total: Cell<Option<u64>>,
}

impl<'a> Work<'a> {
    /// `stop` is asked again and again; once it says true the work ends with
    /// [`OutputError::Stopped`].
    #[must_use]
    pub fn new(task: &'a Task, stop: &'a dyn Fn() -> bool) -> Self {
        Self { task, stop, done: Cell::new(0), total: Cell::new(None) }
    }

    /// Bytes that will be moved in all from now on.
    pub(super) fn expect(&self, total: u64) {
        self.done.set(0);
        self.total.set(Some(total));
    }

    /// Counts bytes that were moved.
    pub(super) fn moved(&self, count: u64) -> Result<(), OutputError> {
        self.done.set(self.done.get() + count);
        self.task.bytes(self.done.get(), self.total.get());
        self.check()
    }

    pub(super) fn check(&self) -> Result<(), OutputError> {
        if (self.stop)() { Err(OutputError::Stopped) } else { Ok(()) }
    }

    /// Moves everything, and says how much it was. Each side names its errors.
    pub(super) fn copy(
        &self,
        mut from: impl Read,
        mut to: impl Write,
        bad_read: impl Fn(std::io::Error) -> OutputError,
        bad_write: impl Fn(std::io::Error) -> OutputError,
    ) -> Result<u64, OutputError> {
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(bad_read(error)),
            };
            to.write_all(&buffer[..n]).map_err(&bad_write)?;
            count += n as u64;
            self.moved(n as u64)?;
        }
    }
}

impl std::fmt::Debug for Work<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Work({} of {:?})", self.done.get(), self.total.get())
    }
}
