//! A proxy as HTTP_PROXY and HTTPS_PROXY name one: it forwards requests with a whole
//! address, and opens tunnels (RFC 9110, 9.3.6).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Serves as long as the test runs.
pub(crate) struct Forward {
    pub(crate) addr: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Forward {
    /// At an address, for anybody or for who shows this `Proxy-Authorization`.
    pub(crate) fn start(ip: &str, wanted: Option<&str>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, wanted) = (Arc::clone(&seen), wanted.map(str::to_owned));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, wanted) = (Arc::clone(&log), wanted.clone());
                std::thread::spawn(move || serve(&client, wanted.as_deref(), &log));
            }
        });
        Self { addr, seen }
    }

    /// The first lines of what came since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn serve(client: &TcpStream, wanted: Option<&str>, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut from = BufReader::new(client);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut to_client = client;
    log.lock().unwrap().push(lines.first()?.clone());
    let field = |name: &str| {
        let find = |line: &String| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        lines.iter().find_map(find)
    };
    if wanted.is_some() && field("proxy-authorization").as_deref() != wanted {
        let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close\r\n\
                      Proxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
        return to_client.write_all(answer.as_bytes()).ok();
    }
    let mut first = lines[0].split(' ');
    let (method, target) = (first.next()?, first.next()?);
    if method == "CONNECT" {
        let server = TcpStream::connect(target).ok()?;
        to_client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
        return tunnel(client, &server);
    }
    // One request, one connection.
    let rest = target.strip_prefix("http://")?;
    let (host, path) = rest.split_at(rest.find('/')?);
    let length: u64 = field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut server = TcpStream::connect(host).ok()?;
    let kept = lines[1..].iter().filter(|line| {
        let name = line.to_ascii_lowercase();
        !name.starts_with("proxy-") && !name.starts_with("connection:")
    });
    let head: String = kept.map(|line| format!("{line}\r\n")).collect();
    let head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{head}\r\n");
    server.write_all(head.as_bytes()).ok()?;
    std::io::copy(&mut from.take(length), &mut server).ok()?;
    std::io::copy(&mut server, &mut to_client).ok()?;
    client.shutdown(Shutdown::Both).ok()
}

fn tunnel(client: &TcpStream, server: &TcpStream) -> Option<()> {
    let pipe = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| pipe(client, server));
        pipe(server, client);
    });
    Some(())
}
