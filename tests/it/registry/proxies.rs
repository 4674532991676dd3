//! The ways out that the environment names.

use super::tls::home_with_image;
use super::*;
use crate::support::apart::{HERE, NAMED, THERE, apart};
use crate::support::authority::Authority;
use crate::support::forward::Forward;

/// `me:s3cr%40t` as a proxy is shown it.
const LOGIN: &str = "Basic bWU6czNjckB0";

#[test]
fn requests_and_tunnels_go_through_a_proxy() {
    apart("registry::proxies::requests_and_tunnels_go_through_a_proxy", || {
        let (kiln, authority) = (home_with_image(), Authority::new("roots"));
        let names = format!("IP:{HERE},DNS:{NAMED}");
        let secure = authority.valid("server", &names).registry(HERE, None);
        let plain = TestRegistry::configured_at(HERE, "", |_| String::new());
        let here = TestRegistry::start(None);
        let proxy = Forward::start(THERE, Some(LOGIN));
        let (address, bare) =
            (format!("http://me:s3cr%40t@{}", proxy.addr), format!("me:s3cr%40t@{}", proxy.addr));
        let port = secure.addr.rsplit(':').next().unwrap();
        let named = format!("{NAMED}:{port}");
        let push = |variables: &[(&str, &str)], flags: &str, to: &str| {
            let line = format!("push localhost/app:1 {to}/app:1 {flags}");
            let mut call =
                kiln.args(line.split_whitespace()).env("SSL_CERT_FILE", authority.root());
            for (name, value) in variables {
                call = call.env(name, value);
            }
            call.run()
        };

        for (variable, value) in [
            ("HTTPS_PROXY", &address),
            ("https_proxy", &bare),
            ("ALL_PROXY", &address),
            ("all_proxy", &bare),
        ] {
            push(&[(variable, value)], "", &secure.addr).success();
            let seen = proxy.take();
            let tunnel = format!("CONNECT {} HTTP/1.1", secure.addr);
            assert!(!seen.is_empty() && seen.iter().all(|line| *line == tunnel), "{seen:?}");
        }
        // The proxy is who knows the name.
        push(&[("HTTPS_PROXY", &address)], "", &named).success();
        assert!(proxy.take().contains(&format!("CONNECT {named} HTTP/1.1")));
        // In the clear, with whole addresses.
        push(&[("HTTP_PROXY", &address)], &format!("--insecure {}", plain.addr), &plain.addr)
            .success();
        let seen = proxy.take();
        let whole = format!("PUT http://{}/v2/app/manifests/1 HTTP/1.1", plain.addr);
        assert!(seen.contains(&whole), "{seen:?}");

        // Directly: what is excepted, and this machine.
        for (list, to) in [
            ("*", &secure.addr),
            ("10.77.0.0/16", &secure.addr),
            (&secure.addr, &secure.addr),
            ("example.com, corp.example", &named),
            (&format!(".corp.example:{port}"), &named),
        ] {
            push(&[("HTTPS_PROXY", &address), ("NO_PROXY", list)], "", to).success();
            assert_eq!(proxy.take(), [] as [String; 0], "{list}");
        }
        push(&[("HTTPS_PROXY", &address), ("no_proxy", "10.0.0.0/16,x")], "", &secure.addr)
            .success();
        assert!(!proxy.take().is_empty());
        push(&[("HTTP_PROXY", &address), ("ALL_PROXY", &address)], "", &here.addr).success();
        push(&[("HTTPS_PROXY", &address), ("REQUEST_METHOD", "GET")], "", &secure.addr).success();
        assert_eq!(proxy.take(), [] as [String; 0]);
    });
}

#[test]
fn proxies_in_trouble() {
    apart("registry::proxies::proxies_in_trouble", || {
        let (kiln, authority) = (home_with_image(), Authority::new("roots"));
        let secure = authority.valid("server", &format!("IP:{HERE}")).registry(HERE, None);
        let plain = TestRegistry::configured_at(HERE, "", |_| String::new());
        let proxy = Forward::start(THERE, Some(LOGIN));
        let pull = |variable: &str, value: &str, from: &str| {
            let line = format!("pull {from}/app:1 --insecure {}", plain.addr);
            let call = kiln.args(line.split_whitespace()).env("SSL_CERT_FILE", authority.root());
            let output = call.env(variable, value).run().failure(1);
            assert!(!output.stderr.contains("s3cret"), "{}", output.stderr);
            output
        };
        let wrong = format!("http://me:s3cret@{}", proxy.addr);
        let said = format!("through the proxy {}", proxy.addr);
        for (variable, to) in [("HTTPS_PROXY", &secure.addr), ("HTTP_PROXY", &plain.addr)] {
            let output = pull(variable, &wrong, to);
            output
                .says(&format!("{said} ({variable}): the proxy asks for a login (407)"))
                .says("user and a password");
            let seen = proxy.take();
            // The plain one is looked at for TLS first: that is a tunnel, if there is a proxy
            // for it.
            assert_eq!(seen.len(), 1, "it is final: {seen:?}");
        }
        for (value, says) in [
            ("http://me:s3cret@10.77.0.2:1", "through the proxy 10.77.0.2:1 (HTTPS_PROXY)"),
            ("socks5://me:s3cret@10.77.0.2:1", "HTTPS_PROXY names a proxy of the kind `socks5`"),
            ("http://me:s3cret@10.77.0.2:port", "HTTPS_PROXY is no address of a proxy"),
        ] {
            pull("HTTPS_PROXY", value, &secure.addr).says(says);
        }
        // A certificate that does not hold is looked at once, through a tunnel too.
        let expired =
            authority.signs("expired", &format!("IP:{HERE}"), "20200101000000Z", "20200102000000Z");
        let expired = expired.registry(HERE, None);
        let proxy = Forward::start(THERE, None);
        pull("HTTPS_PROXY", &proxy.addr, &expired.addr).says("has expired");
        assert_eq!(proxy.take().len(), 1);
    });
}
