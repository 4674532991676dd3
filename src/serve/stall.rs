//! Connections that do not get on: a client that takes or sends nothing, or drips, is
//! left, so that it keeps no place for others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest time in which nothing moves.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// How long a look at the speed is.
const LOOK: Duration = Duration::from_secs(60);
/// Least bytes in that time.
const LEAST: usize = 16 << 10;

/// Watches that enough moves.
#[derive(Debug)]
pub(super) struct Window {
    since: Instant,
    bytes: usize,
}

impl Window {
    pub(super) fn begin() -> Self {
        Self { since: Instant::now(), bytes: 0 }
    }

    /// False if too little has moved.
    pub(super) fn moved(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        if self.since.elapsed() < LOOK {
            return true;
        }
        let enough = self.bytes >= LEAST;
        *self = Self::begin();
        enough
    }
}

/// A stream whose writes fail when the other side does not take them.
#[derive(Debug)]
pub(super) struct Stall<T> {
    inner: T,
    patience: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Written since it runs.
    bytes: usize,
}

impl<T> Stall<T> {
    pub(super) fn new(inner: T, patience: Duration) -> Self {
        Self { inner, patience, waiting: None, bytes: 0 }
    }

    /// What became of a write, or that it waits for too long.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                self.bytes = self.bytes.saturating_add(bytes);
                if self.bytes >= LEAST {
                    self.waiting = None;
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                let waiting = match self.waiting.take() {
                    Some(waiting) => self.waiting.insert(waiting),
                    None => {
                        self.bytes = 0;
                        self.waiting.insert(Box::pin(tokio::time::sleep(self.patience)))
                    }
                };
                match waiting.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        let slow =
                            io::Error::new(io::ErrorKind::TimedOut, "the client is too slow");
                        Poll::Ready(Err(slow))
                    }
                }
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stall<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stall<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx).map_ok(|()| 0);
        // TLS writes here.
        self.watch_flush(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let over = Pin::new(&mut self.inner).poll_shutdown(cx).map_ok(|()| 0);
        self.watch_flush(cx, over)
    }
}

impl<T> Stall<T> {
    fn watch_flush(
        &mut self,
        cx: &mut Context<'_>,
        flushed: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        if flushed.is_ready() {
            self.waiting = None;
        }
        self.watch(cx, flushed).map_ok(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn who_takes_nothing_is_left() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut ours = Stall::new(ours, Duration::from_millis(20));
        ours.write_all(&[0; 1024]).await.unwrap();
        let error = ours.write_all(&[0; 1024]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // Whoever takes it is not, however long nothing was written.
        theirs.read_exact(&mut [0; 1024]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut ours = Stall::new(ours.inner, IDLE);
        let mut all = [0; 8192];
        let (written, read) = tokio::join!(ours.write_all(&[0; 8192]), theirs.read_exact(&mut all));
        assert!(written.is_ok() && read.is_ok());
    }

    #[test]
    fn windows() {
        let mut window = Window::begin();
        assert!(window.moved(1));
        window.since = Instant::now().checked_sub(LOOK).unwrap();
        assert!(!window.moved(1), "a drip");
        window.since = Instant::now().checked_sub(LOOK).unwrap();
        assert!(window.moved(LEAST));
    }
}
