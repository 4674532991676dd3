//! Published ports, and networks without them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use kiln::container::{self, ContainerError, NetworkMode, Port, Protocol, RunRequest};

use super::fixture::Fixture;

fn port(host: u16, container: u16) -> Port {
    Port { host_ip: Some([127, 0, 0, 1].into()), host, container, proto: Protocol::Tcp }
}

fn get(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn published_ports() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("exec httpd -f -p 127.0.0.1:80 -h /srv");
    ask.publish = vec![port(0, 80)];
    let name = fixture.detach(ask.clone()).unwrap();
    let summary = fixture.inspect(&name);
    assert_eq!(summary.config.network, NetworkMode::Private);
    let host = summary.state.ports[0].host;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match get(host) {
            Ok(text) if text.contains("served from inside") => break,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    // Several at once, each whole.
    let all: Vec<_> = (0..20).map(|_| std::thread::spawn(move || get(host))).collect();
    assert!(all.into_iter().all(|one| one.join().unwrap().unwrap().ends_with("inside\n")));

    // The second one that wants the port is told so, and leaves nothing.
    let before = fixture.folders().len();
    ask.publish = vec![port(host, 80)];
    let error = fixture.detach(ask.clone()).unwrap_err();
    assert!(error.to_string().contains("another program listens there"), "{error}");
    assert_eq!(fixture.folders().len(), before);
    container::remove(&fixture.store, &name, true).unwrap();
    // With the container the port is free.
    TcpListener::bind(("127.0.0.1", host)).unwrap();

    // No way out: the host's loopback is not the container's.
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = outside.local_addr().unwrap().port();
    std::thread::spawn(move || while outside.accept().is_ok() {});
    for network in [NetworkMode::Private, NetworkMode::None] {
        let mut ask = fixture.ask(&format!("nc -w 2 127.0.0.1 {at} </dev/null && exit 9; exit 0"));
        ask.network = Some(network);
        assert_eq!(fixture.run(&ask, "").unwrap().0, 0);
    }
    let mut ask = fixture.ask(&format!("nc -w 2 127.0.0.1 {at} </dev/null"));
    ask.network = Some(NetworkMode::Host);
    assert_eq!(fixture.run(&ask, "").unwrap().0, 0);

    // What cannot be done is refused.
    let refused = |network, port: Port| {
        let ask = RunRequest { network, publish: vec![port], ..fixture.ask("true") };
        fixture.detach(ask).unwrap_err()
    };
    let udp = Port { proto: Protocol::Udp, ..port(5353, 53) };
    assert!(matches!(refused(None, udp), ContainerError::UdpPort(_)));
    let host = Some(NetworkMode::Host);
    assert!(matches!(refused(host, port(8080, 80)), ContainerError::HostPort(_)));
    let none = Some(NetworkMode::None);
    assert!(matches!(refused(none, port(80, 80)), ContainerError::PortWithoutNetwork(_)));
}

/// The last words of a container that ends at once arrive whole.
#[test]
fn a_connection_outlives_its_container() {
    let fixture = Fixture::new();
    let mut ask = fixture.ask("seq 1 20000 | nc -l -p 80");
    ask.publish = vec![port(0, 80)];
    let name = fixture.detach(ask).unwrap();
    let host = fixture.inspect(&name).state.ports[0].host;
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let mut stream = TcpStream::connect(("127.0.0.1", host)).unwrap();
        let mut text = String::new();
        // Not listening yet: the connection ends at once.
        if stream.read_to_string(&mut text).is_ok() && !text.is_empty() {
            assert!(text.starts_with("1\n") && text.ends_with("\n20000\n"), "{}", text.len());
            break;
        }
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
}
