//! Files to servers of this machine, from the page cache to the socket without a copy.
//!
//! Where there is neither TLS nor a proxy nothing has to see the bytes on their way: the
//! kernel moves them (sendfile(2)), which takes a third of the time that reading and
//! writing them does. One request, one connection (RFC 9112).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use reqwest::Url;
use rustix::io::Errno;

use super::{CONNECT, IDLE, USER_AGENT, is_loopback, pass};

/// Bytes for the kernel to move at once: between two such moves it is looked whether
/// they are still wanted.
const STRIDE: u64 = 1 << 20;

/// How long the server may take to answer once it has all of the file.
const ANSWER: Duration = Duration::from_secs(300);

/// How long it may take to answer when it has closed the connection before.
const GLANCE: Duration = Duration::from_secs(2);

/// How often it is looked, while the answer is waited for, whether that is still wanted.
const TURN: Duration = Duration::from_millis(100);

/// Most bytes of an answer: servers have nothing to say to a file but a status.
const MOST: u64 = 80 << 10;

/// A request that carries a part of a file.
#[derive(Debug)]
pub struct FileRequest {
    pub method: Method,
    pub url: Url,
    /// Besides Host, User-Agent and Content-Length.
    pub headers: HeaderMap,
    pub file: Arc<File>,
    /// Where the part begins, in bytes.
    pub from: u64,
    /// Bytes of the file that go out.
    pub size: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum RequestError {
    /// The file cannot be read, or is shorter than was said.
    File(io::Error),
    /// The server, or the way to it.
    Server(io::Error),
}

impl FileRequest {
    /// Whether an address can be sent to in this way.
    #[must_use]
    pub fn can(url: &Url) -> bool {
        url.scheme() == "http" && url.host_str().is_some_and(is_loopback)
    }

    /// Sends the file and gives the answer, whatever its status. `sent` counts the bytes;
    /// it ends when `wanted` is false. Blocks.
    ///
    /// # Errors
    /// If the file cannot be read, or no answer comes.
    pub fn send(
        &self,
        sent: &AtomicU64,
        wanted: impl Fn() -> bool,
    ) -> Result<Response<Vec<u8>>, RequestError> {
        let mut server = self.connect().map_err(RequestError::Server)?;
        match self.bytes(&mut server, sent, &wanted) {
            Ok(()) => answer(&server, ANSWER, &wanted).map_err(RequestError::Server),
            // A server that has heard enough has said why.
            Err(RequestError::Server(error)) => {
                answer(&server, GLANCE, &wanted).map_err(|_| RequestError::Server(error))
            }
            Err(error @ RequestError::File(_)) => Err(error),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        pass("sending a file")?;
        let port = self.url.port_or_known_default().unwrap_or(80);
        // Names are not looked up here: `localhost` is both of these.
        let hosts: &[&str] = match self.url.host_str() {
            Some("localhost") | None => &["127.0.0.1", "::1"],
            Some(host) => &[host.trim_start_matches('[').trim_end_matches(']')],
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in
            hosts.iter().filter_map(|host| (*host, port).to_socket_addrs().ok()).flatten()
        {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(server) => {
                    server.set_nodelay(true)?;
                    server.set_write_timeout(Some(IDLE))?;
                    server.set_read_timeout(Some(TURN))?;
                    return Ok(server);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn head(&self) -> Vec<u8> {
        let Self { method, url, size, .. } = self;
        let path = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let mut head = format!(
            "{method} {}{path} HTTP/1.1\r\nHost: {}{port}\r\nUser-Agent: {USER_AGENT}\r\n\
             Connection: close\r\nContent-Length: {size}\r\n",
            url.path(),
            url.host_str().unwrap_or_default(),
        )
        .into_bytes();
        for (name, value) in &self.headers {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        head.extend(b"\r\n");
        head
    }

    fn bytes(
        &self,
        server: &mut TcpStream,
        sent: &AtomicU64,
        wanted: &impl Fn() -> bool,
    ) -> Result<(), RequestError> {
        server.write_all(&self.head()).map_err(RequestError::Server)?;
        let (mut at, end) = (self.from, self.from + self.size);
        while at < end {
            if !wanted() {
                return Err(RequestError::Server(io::ErrorKind::Interrupted.into()));
            }
            let stride = usize::try_from(STRIDE.min(end - at)).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(&*server, &self.file, Some(&mut at), stride) {
                Ok(0) => return Err(RequestError::File(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => sent.store(at - self.from, Ordering::Relaxed),
                Err(Errno::INTR) => (),
                // Not every file system has it.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    let mut piece = vec![0; stride.min(128 << 10)];
                    let length = self.file.read_at(&mut piece, at).map_err(RequestError::File)?;
                    if length == 0 {
                        return Err(RequestError::File(io::ErrorKind::UnexpectedEof.into()));
                    }
                    server.write_all(&piece[..length]).map_err(RequestError::Server)?;
                    at += length as u64;
                    sent.store(at - self.from, Ordering::Relaxed);
                }
                Err(error @ Errno::IO) => return Err(RequestError::File(error.into())),
                Err(error) => return Err(RequestError::Server(error.into())),
            }
        }
        Ok(())
    }
}

/// Reads an answer, as long as it is wanted.
fn answer(
    server: &TcpStream,
    patience: Duration,
    wanted: &impl Fn() -> bool,
) -> io::Result<Response<Vec<u8>>> {
    use io::ErrorKind::{Interrupted, TimedOut, UnexpectedEof, WouldBlock};
    let (mut from, mut bytes, begun) = (server.take(MOST), Vec::new(), Instant::now());
    loop {
        let mut piece = [0; 4096];
        let length = match from.read(&mut piece) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => {
                if !wanted() {
                    return Err(Interrupted.into());
                }
                if begun.elapsed() > patience {
                    return Err(TimedOut.into());
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        bytes.extend_from_slice(&piece[..length]);
        if let Some(answer) = parse(&bytes, length == 0)? {
            return Ok(answer);
        }
        if length == 0 {
            return Err(io::Error::new(UnexpectedEof, "closed without an answer"));
        }
    }
}

/// The answer that bytes are, once they are enough for it; `ended` says that no more come.
fn parse(mut bytes: &[u8], ended: bool) -> io::Result<Option<Response<Vec<u8>>>> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (status, lines, body) = loop {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("its head is no text"))?;
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status: Option<u16> = first.strip_prefix("HTTP/1.").and_then(|rest| {
            let code = rest.split(' ').nth(1)?;
            code.parse().ok()
        });
        let status = status.ok_or_else(|| wrong("it is no answer of HTTP/1"))?;
        let body = &bytes[end + 4..];
        if status >= 200 {
            break (status, lines, body);
        }
        // It only says that it listens.
        bytes = body;
    };
    let mut answer = Response::new(Vec::new());
    *answer.status_mut() = status.try_into().map_err(|_| wrong("its status is none"))?;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("a header has no value"))?;
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value.trim());
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(wrong("a header is malformed"));
        };
        answer.headers_mut().append(name, value);
    }
    let stated = answer.headers().get(http::header::CONTENT_LENGTH);
    let stated = stated.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    match stated {
        Some(length) if body.len() >= length => body[..length].clone_into(answer.body_mut()),
        None if ended || status == 204 => body.clone_into(answer.body_mut()),
        // Cut off, it is an answer all the same: its status is known.
        Some(_) if ended => body.clone_into(answer.body_mut()),
        Some(_) | None => return Ok(None),
    }
    // A length that is not that of what was read would mislead.
    answer.headers_mut().remove(http::header::CONTENT_LENGTH);
    answer.headers_mut().remove(http::header::TRANSFER_ENCODING);
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let of = |text: &str, ended| {
            parse(text.as_bytes(), ended).map(|found| {
                found.map(|a| (a.status().as_u16(), String::from_utf8_lossy(a.body()).into_owned()))
            })
        };
        for (text, ended, expected) in [
            ("", false, None),
            ("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", false, Some((201, ""))),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}x", false, Some((400, "{}"))),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\n{}", false, None),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\n{}", true, Some((400, "{}"))),
            ("HTTP/1.0 500 x\r\n\r\nsaid", false, None),
            ("HTTP/1.0 500 x\r\n\r\nsaid", true, Some((500, "said"))),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
                false,
                Some((204, "")),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", false, None),
        ] {
            let expected = expected.map(|(status, body)| (status, body.to_owned()));
            assert_eq!(of(text, ended).unwrap(), expected, "{text}");
        }
        // A server may say often that it listens.
        let often = format!("{}HTTP/1.1 204 x\r\n\r\n", "HTTP/1. 1\r\n\r\n".repeat(100_000));
        assert_eq!(of(&often, false).unwrap(), Some((204, String::new())));
        for bad in ["SSH-2.0\r\n\r\n", "HTTP/1.1 x\r\n\r\n", "HTTP/1.1 200 OK\r\nodd\r\n\r\n"] {
            assert!(of(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn which_addresses() {
        for (url, can) in [
            ("http://127.0.0.1:5000/x", true),
            ("http://localhost/x", true),
            ("http://[::1]:5000/x", true),
            ("https://127.0.0.1:5000/x", false),
            ("http://10.0.0.1/x", false),
        ] {
            assert_eq!(FileRequest::can(&url.parse().unwrap()), can, "{url}");
        }
    }
}
