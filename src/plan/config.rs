//! Values that the image config has a form of its own for.

use serde_json::{Map, Value, json};

use crate::dockerfile::{CommandLine, HealthTest, Healthcheck, Spanned};
use crate::epoch::Epoch;
use crate::image::{Config, ImageConfig};

use super::graph::PlanRequest;
use super::history;

/// What programs are looked for in if the image does not say.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// The arguments of a command: the shell's words before a text.
pub(super) fn arguments(config: &Config, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
        CommandLine::Shell(text) => {
            let mut argv = match &config.shell {
                Some(shell) if !shell.is_empty() => shell.clone(),
                Some(_) | None => DEFAULT_SHELL.map(str::to_owned).to_vec(),
            };
            argv.push(text.value.clone());
            argv
        }
    }
}

/// A list that is absent where it has nothing, as Go writes it.
pub(super) fn or_absent(list: Vec<String>) -> Option<Vec<String>> {
    (!list.is_empty()).then_some(list)
}

/// Sets a variable of the image where it stands, or at the end.
pub(super) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let own = |old: &&mut String| old.split_once('=').map_or(old.as_str(), |(own, _)| own) == name;
    match env.iter_mut().find(own) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// Ports of one word of `EXPOSE`: `[ip:]host:container[/protocol]`, of which
/// only the container's side counts.
pub(super) fn ports(word: &str) -> Result<Vec<String>, String> {
    let mut parts = word.rsplitn(3, ':');
    let own = parts.next().unwrap_or_default();
    let (ports, protocol) = own.split_once('/').unwrap_or((own, ""));
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("`{protocol}` is no protocol of ports: tcp, udp or sctp")),
    };
    let (first, last) = range(ports)?;
    if let Some(host) = parts.next().filter(|host| !host.is_empty()) {
        let (from, to) = range(host)?;
        if to - from != last - first && last != first {
            return Err(format!("`{host}` and `{ports}` are not equally many ports"));
        }
    }
    if let Some(address) = parts.next().filter(|address| !address.is_empty()) {
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if bare.unwrap_or(address).parse::<std::net::IpAddr>().is_err() {
            return Err(format!("`{address}` is no IP address"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| {
        text.parse::<u16>().map_err(|_| format!("`{text}` is no port: 0 to 65535 is expected"))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(format!("`{text}` is no range of ports: it ends before it begins"));
    }
    Ok((first, last))
}

pub(super) fn expose(config: &mut Config, ports: &[String]) {
    config.exposed_ports.extend(ports.iter().map(|port| (port.clone(), Default::default())));
}

/// True for what `kill` would take: a number, or a name with or without `SIG`.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 36] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
        "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let step = |rest: Option<&str>, most: u8| {
        rest.and_then(|rest| rest.parse::<u8>().ok()).is_some_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name)
        || step(name.strip_prefix("RTMIN+"), 15)
        || step(name.strip_prefix("RTMAX-"), 14)
}

/// A `HEALTHCHECK` as the config has it, and as the history tells it.
pub(super) fn healthcheck(check: &Healthcheck) -> (Value, String) {
    let test: Vec<String> = match &check.test {
        HealthTest::None => vec!["NONE".to_owned()],
        HealthTest::Cmd(CommandLine::Shell(text)) => {
            vec!["CMD-SHELL".to_owned(), text.value.clone()]
        }
        HealthTest::Cmd(CommandLine::Exec(words)) => std::iter::once("CMD".to_owned())
            .chain(words.iter().map(|word| word.value.clone()))
            .collect(),
    };
    let mut told = format!("HEALTHCHECK {{Test:{}", history::listed(&test));
    let mut fields = Map::from_iter([("Test".to_owned(), json!(test))]);
    for (name, time) in [
        ("Interval", &check.interval),
        ("Timeout", &check.timeout),
        ("StartPeriod", &check.start_period),
        ("StartInterval", &check.start_interval),
    ] {
        let time = time.as_ref().map(|time| time.value).unwrap_or_default();
        told += &format!(" {name}:{}", history::duration(time));
        // The parser keeps times within 63 bits of nanoseconds.
        if let Some(nanos) = u64::try_from(time.as_nanos()).ok().filter(|nanos| *nanos > 0) {
            fields.insert(name.to_owned(), json!(nanos));
        }
    }
    let retries = check.retries.as_ref().map_or(0, |retries: &Spanned<u32>| retries.value);
    told += &format!(" Retries:{retries}}}");
    if retries > 0 {
        fields.insert("Retries".to_owned(), json!(retries));
    }
    (Value::Object(fields), told)
}

/// What remains when all instructions are done.
pub(super) fn finish(config: &mut ImageConfig, ask: &PlanRequest) {
    let labels = ask.labels.iter().map(|(key, value)| (key.clone(), value.clone()));
    config.config.labels.extend(labels);
    config.created = Some(Epoch::rfc3339(ask.epoch));
    config.rootfs.kind = "layers".to_owned();
    config.rootfs.diff_ids.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed() {
        let of = |word: &str| ports(word).map(|ports| ports.join(" "));
        for (word, want) in [
            ("80", "80/tcp"),
            ("53/UDP", "53/udp"),
            ("8000-8002", "8000/tcp 8001/tcp 8002/tcp"),
            ("8080:80", "80/tcp"),
            ("127.0.0.1:8080:80/sctp", "80/sctp"),
            ("[::1]:8080:80", "80/tcp"),
            ("1000-2000:80", "80/tcp"),
        ] {
            assert_eq!(of(word).as_deref(), Ok(want), "{word}");
        }
        for word in
            ["", "/tcp", "80/icmp", "x", "65536", "9-8", "1-2:3-5", "a:1:2", "-1", "1-", ":"]
        {
            assert!(of(word).is_err(), "{word}");
        }
    }

    #[test]
    fn signals() {
        for good in ["SIGTERM", "term", "9", "SIGRTMIN+3", "RTMAX-14", "rtmin", "64"] {
            assert!(is_signal(good), "{good}");
        }
        for bad in ["", "0", "65", "SIG", "TERMINATE", "RTMIN+16", "RTMAX-0", "-1"] {
            assert!(!is_signal(bad), "{bad}");
        }
    }

    #[test]
    fn variables_keep_their_place() {
        let mut env = vec!["A=1".to_owned(), "AB=2".to_owned(), "C".to_owned()];
        set_env(&mut env, "AB", "3");
        set_env(&mut env, "C", "");
        set_env(&mut env, "D", "a=b");
        assert_eq!(env, ["A=1", "AB=3", "C=", "D=a=b"]);
    }
}
