//! Files as bodies: read in pieces, off the threads that serve connections, and never more
//! of all files together than [`BUDGET`] allows.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::task::JoinHandle;

/// Bytes that all pieces on their way may take together: each transfer has one that is
/// being read or written, and one that is on its way.
const BUDGET: usize = 4 << 20;
/// Where pieces become neither faster nor, with many transfers, worth a call.
const LARGEST: usize = 256 << 10;
const SMALLEST: usize = 16 << 10;

/// Counts the transfers under way, to tell each how large its pieces may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Transfers(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Transfer(Arc<AtomicUsize>);

impl Transfers {
    pub(super) fn begin(&self) -> Transfer {
        self.0.fetch_add(1, Ordering::Relaxed);
        Transfer(Arc::clone(&self.0))
    }
}

impl Transfer {
    /// How large a piece may be now.
    pub(super) fn piece(&self) -> usize {
        let transfers = self.0.load(Ordering::Relaxed).max(1);
        (BUDGET / 2 / transfers).clamp(SMALLEST, LARGEST)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A part of a file, as a body.
#[derive(Debug)]
pub(super) struct FilePieces {
    state: State,
    left: u64,
    transfer: Transfer,
}

#[derive(Debug)]
enum State {
    Idle(File),
    Reading(JoinHandle<io::Result<(File, Vec<u8>)>>),
    Over,
}

impl FilePieces {
    /// `length` bytes of a file from `start` on.
    ///
    /// # Errors
    /// If the file cannot be positioned.
    pub(super) fn new(
        mut file: File,
        start: u64,
        length: u64,
        transfer: Transfer,
    ) -> io::Result<Self> {
        if start > 0 {
            file.seek(SeekFrom::Start(start))?;
        }
        Ok(Self { state: State::Idle(file), left: length, transfer })
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next piece; none at the end.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return Poll::Ready(None),
                State::Idle(_) if self.left == 0 => return Poll::Ready(None),
                State::Idle(file) => {
                    let most = (self.transfer.piece() as u64).min(self.left);
                    self.state = State::Reading(tokio::task::spawn_blocking(move || {
                        // As large as it gets, and one byte more to see that it is all.
                        let mut bytes = Vec::with_capacity(most as usize + 32);
                        let mut part = file.take(most);
                        part.read_to_end(&mut bytes)?;
                        Ok((part.into_inner(), bytes))
                    }));
                }
                State::Reading(mut reading) => match Pin::new(&mut reading).poll(cx) {
                    Poll::Pending => {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    }
                    Poll::Ready(read) => {
                        let (file, bytes) = match read.map_err(io::Error::other).flatten() {
                            Ok(read) => read,
                            Err(error) => return Poll::Ready(Some(Err(error))),
                        };
                        if bytes.is_empty() {
                            // Shorter than its name says; the client must not take it for whole.
                            let short = io::Error::from(io::ErrorKind::UnexpectedEof);
                            return Poll::Ready(Some(Err(short)));
                        }
                        self.left -= bytes.len() as u64;
                        self.state = State::Idle(file);
                        return Poll::Ready(Some(Ok(bytes.into())));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_transfers_have_small_pieces() {
        let transfers = Transfers::default();
        let one = transfers.begin();
        assert_eq!(one.piece(), LARGEST);
        let many: Vec<Transfer> = (0..63).map(|_| transfers.begin()).collect();
        assert!(many.len() * many[0].piece() <= BUDGET / 2);
        drop(many);
        assert_eq!(one.piece(), LARGEST);
    }

    #[tokio::test]
    async fn a_part_of_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let transfer = Transfers::default().begin();
        let mut pieces = FilePieces::new(file, 5, 600_000, transfer).unwrap();
        let mut found = Vec::new();
        while let Some(piece) = std::future::poll_fn(|cx| pieces.poll_piece(cx)).await {
            found.extend_from_slice(&piece.unwrap());
        }
        assert!(found == bytes[5..600_005]);
    }

    /// A blob that lost its end must not pass for a whole one.
    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error() {
        let transfer = Transfers::default().begin();
        let mut pieces = FilePieces::new(tempfile::tempfile().unwrap(), 0, 1, transfer).unwrap();
        let piece = std::future::poll_fn(|cx| pieces.poll_piece(cx)).await;
        assert!(piece.unwrap().is_err());
        assert!(std::future::poll_fn(|cx| pieces.poll_piece(cx)).await.is_none());
    }
}
