//! `kiln login` and `logout`, the files and helpers behind them, and that no output of
//! kiln shows a secret.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::support::kiln::Kiln;
use crate::support::tokens::{Signer, base64, granted, refused, service};

const WORD: &str = "correct horse";

/// A registry for `me`, and an image to bring there.
fn world() -> (TestRegistry, Kiln) {
    let (registry, kiln) = (TestRegistry::start(Some(("me", WORD))), Kiln::new());
    let folder = kiln.path("context");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    kiln.ok("build -q -t app:1 context");
    (registry, kiln)
}

fn log_in(kiln: &Kiln, more: &[&str]) -> crate::support::kiln::Output {
    let line = [&["login", "-u", "me", "--password-stdin"], more].concat();
    kiln.args(line).stdin(format!("{WORD}\n")).run()
}

/// The entries of a file of credentials.
fn entries(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let auths = file["auths"].as_object().cloned().unwrap_or_default();
    auths.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn files_of_credentials() {
    let (registry, kiln) = world();
    let host = registry.addr.as_str();
    let to = format!("{host}/team/app:1");
    kiln.ok(&format!("tag app:1 {to}"));
    let file = kiln.path("my/auth.json");
    let shown = file.display();
    // One that is named must be there, except for a login, which makes it.
    let line = format!("push --authfile {shown} {to}");
    kiln.fails(1, &line).says("is not there").says("kiln login --authfile");
    log_in(&kiln, &["--authfile", file.to_str().unwrap(), host]).success();
    assert!(!kiln.path(".docker/config.json").exists());
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    kiln.fails(1, &format!("push {to}")).says("no credentials");
    kiln.ok(&line);
    kiln.args(["pull", &to]).env("REGISTRY_AUTH_FILE", &file).run().success();
    // The flag comes before the variable.
    std::fs::write(kiln.path("empty.json"), "{}").unwrap();
    let empty = kiln.path("empty.json");
    kiln.args(["pull", "--authfile", file.to_str().unwrap(), &to])
        .env("REGISTRY_AUTH_FILE", &empty)
        .run()
        .success();
    kiln.args(["pull", &to]).env("REGISTRY_AUTH_FILE", &empty).run().failure(1);
    let get = format!("login --get-login --authfile {shown} {host}");
    assert_eq!(kiln.ok(&get).text(), "me\n");
    kiln.fails(1, &format!("login --get-login {host}")).says("not logged in to");

    // podman's file, where podman puts it; it is not kiln's to remove.
    let runtime = kiln.path("runtime/containers");
    std::fs::create_dir_all(&runtime).unwrap();
    std::fs::copy(&file, runtime.join("auth.json")).unwrap();
    let podmans =
        |line: &str| kiln.args(line.split(' ')).env("XDG_RUNTIME_DIR", kiln.path("runtime")).run();
    podmans(&format!("pull {to}")).success();
    let output = podmans(&format!("logout {host}")).failure(1);
    output.says("user `me` from").says("runtime/containers/auth.json").says("--authfile");
    std::fs::copy(&file, kiln.path("config.json")).unwrap();
    kiln.args(["pull", &to]).env("DOCKER_CONFIG", kiln.path("")).run().success();
    let lasting = kiln.path(".config/containers");
    std::fs::create_dir_all(&lasting).unwrap();
    std::fs::copy(&file, lasting.join("auth.json")).unwrap();
    kiln.ok(&format!("pull {to}"));
    std::fs::remove_file(lasting.join("auth.json")).unwrap();

    kiln.ok(&format!("logout --authfile {shown} {host}"));
    kiln.fails(1, &line).says("no credentials");
    kiln.fails(1, &format!("logout --authfile {shown} {host}")).says("not logged in to");
}

/// Logins for the repositories below a path, as podman and skopeo have them.
#[test]
fn logins_for_paths() {
    let (registry, kiln) = world();
    let host = registry.addr.as_str();
    let file = kiln.path(".docker/config.json");
    let (team, other) = (format!("{host}/team/app:1"), format!("{host}/teams/app:1"));
    for name in [&team, &other] {
        kiln.ok(&format!("tag app:1 {name}"));
    }
    log_in(&kiln, &[&format!("{host}/team")]).success();
    assert_eq!(entries(&file), [format!("{host}/team")]);
    kiln.ok(&format!("push {team}"));
    kiln.fails(1, &format!("push {other}")).says("no credentials");
    assert_eq!(kiln.ok(&format!("login --get-login {host}/team/app")).text(), "me\n");
    kiln.fails(1, &format!("login --get-login {host}"));
    let auth = format!("--authfile={}", file.display());
    skopeo(&["inspect", "--tls-verify=false", &auth, &format!("docker://{team}")]);

    // The other way round; the longest path counts.
    let theirs = kiln.path("theirs.json");
    let theirs_flag = format!("--authfile={}", theirs.display());
    let line = ["login", "--tls-verify=false", &theirs_flag, "-u", "me", "-p", WORD];
    skopeo(&[&line[..], &[&format!("{host}/teams")]].concat());
    kiln.ok(&format!("push {theirs_flag} {other}"));
    let auths = serde_json::json!({ "auths": {
        host: { "auth": base64(b"me:wrong") },
        format!("{host}/team"): { "auth": base64(b"you:wrong") },
        format!("{host}/team/app"): { "auth": base64(format!("me:{WORD}").as_bytes()) },
    }});
    std::fs::write(&theirs, auths.to_string()).unwrap();
    kiln.ok(&format!("push {theirs_flag} {team}"));
    kiln.fails(1, &format!("push {theirs_flag} {other}")).says("user `me` from");

    for wrong in ["/team:1", "/Team", "/../x"] {
        let output = log_in(&kiln, &[&format!("{host}{wrong}")]).failure(1);
        output.says("is not a registry");
    }
    kiln.fails(1, &format!("logout {host}")).says("not logged in");
    kiln.ok(&format!("logout {host}/team"));
    assert!(entries(&file).is_empty());
}

#[test]
fn passwords_from_stdin() {
    let word = "{\n  \"key\": \"x\"\n}";
    let (registry, kiln) = (TestRegistry::start(Some(("_json_key", word))), Kiln::new());
    let login = |input: &str| {
        let line = ["login", "-u", "_json_key", "--password-stdin", &registry.addr];
        kiln.args(line).stdin(input).run()
    };
    // All lines of it, but for the newline of `echo`.
    login(&format!("{word}\n")).success();
    login(&format!("{word}\r\n")).success();
    login(word).success();
    let output = login(word.lines().next().unwrap()).failure(1);
    output.says("asks for a login");
    login("\n").failure(2).says("empty");
    login(&"x".repeat(70_000)).failure(2).says("more than 65536 bytes");
    // Nobody to ask.
    kiln.fails(2, &format!("login {}", registry.addr)).says("--password-stdin");
    kiln.fails(2, &format!("login --get-login -u me {}", registry.addr));
}

/// A helper that keeps what it is told in files, and counts how often it is asked.
fn helper(kiln: &Kiln) -> (String, std::path::PathBuf) {
    let folder = kiln.path("bin");
    std::fs::create_dir_all(&folder).unwrap();
    let keep = kiln.path("kept");
    std::fs::create_dir_all(&keep).unwrap();
    let script = format!(
        "#!/bin/sh\ncd {}\ninput=$(cat)\necho $1 >> calls\n\
         case $1 in\n\
         store) server=$(printf %s \"$input\" | sed 's/.*\"ServerURL\":\"\\([^\"]*\\)\".*/\\1/')\n\
           printf %s \"$input\" > \"$(printf %s \"$server\" | tr / _)\" ;;\n\
         get) cat \"$(printf %s \"$input\" | tr / _)\" 2>/dev/null || \
           {{ echo credentials not found in native keychain; exit 1; }} ;;\n\
         erase) rm \"$(printf %s \"$input\" | tr / _)\" ;;\nesac\n",
        keep.display()
    );
    let program = folder.join("docker-credential-test");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (format!("{}:/usr/bin:/bin", folder.display()), keep)
}

#[test]
fn helpers() {
    let (registry, kiln) = world();
    let (path, keep) = helper(&kiln);
    let host = registry.addr.as_str();
    let file = kiln.path(".docker/config.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, r#"{"credsStore": "test", "psFormat": "x"}"#).unwrap();
    let run = |line: &str| kiln.args(line.split(' ')).env("PATH", &path).run();
    let login = ["login", "-u", "me", "--password-stdin", host];
    let output = kiln.args(login).env("PATH", &path).stdin(WORD).run().success();
    assert!(output.text().contains("credential helper `test`"), "{}", output.text());
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&base64(b"me:")[..4]));
    assert_eq!(entries(&file), [host]);
    assert!(std::fs::read_to_string(keep.join(host)).unwrap().contains(WORD));
    assert_eq!(run(&format!("login --get-login {host}")).success().text(), "me\n");

    // One question for all that a push asks of the registry.
    let to = format!("{host}/app:1");
    kiln.ok(&format!("tag app:1 {to}"));
    std::fs::write(keep.join("calls"), "").unwrap();
    run(&format!("push {to}")).success();
    assert_eq!(std::fs::read_to_string(keep.join("calls")).unwrap(), "get\n");

    // Paths of a registry are kept in the file: helpers know none.
    let line = format!("{host}/team");
    let login = ["login", "-u", "me", "--password-stdin", &line];
    kiln.args(login).env("PATH", &path).stdin(WORD).run().success();
    assert_eq!(entries(&file), [host.to_owned(), line.clone()]);

    let output = run("logout --all").success();
    assert_eq!(output.text(), format!("Removed login credentials for {host}, {line}\n"));
    assert!(entries(&file).is_empty() && !keep.join(host).exists());
    assert!(std::fs::read_to_string(&file).unwrap().contains("psFormat"));
    assert!(run("logout --all").success().text().starts_with("No login credentials in"));
    run(&format!("push {host}/app:2")).failure(1);
    run("logout --all --authfile nowhere.json").success();
    run("logout --all docker.io").failure(2);

    // What a helper says when it fails, escaped; never what it keeps.
    let program = kiln.path("bin/docker-credential-test");
    let script = "#!/bin/sh\necho 'it is \x1b[1mlocked' >&2\nexit 2\n";
    std::fs::write(&program, script).unwrap();
    let output = run(&format!("pull {to}")).failure(1);
    output.says("credential helper `test`").says("it is \\u{1b}[1mlocked");
}

/// What a helper said may run out: it is asked again when the registry refuses it.
#[test]
fn helpers_are_asked_again() {
    let (registry, kiln) = world();
    let (path, keep) = helper(&kiln);
    let host = registry.addr.as_str();
    let script = format!(
        "#!/bin/sh\ncd {}\necho $1 >> calls\nword=wrong\n\
         [ $(wc -l < calls) -gt 1 ] && word='{WORD}'\n\
         printf '{{\"Username\":\"me\",\"Secret\":\"%s\"}}' \"$word\"\n",
        keep.display()
    );
    std::fs::write(kiln.path("bin/docker-credential-test"), script).unwrap();
    std::fs::create_dir_all(kiln.path(".docker")).unwrap();
    let config = serde_json::json!({ "credHelpers": { host: "test" } });
    std::fs::write(kiln.path(".docker/config.json"), config.to_string()).unwrap();
    let to = format!("{host}/app:1");
    kiln.ok(&format!("tag app:1 {to}"));
    kiln.args(["push", &to]).env("PATH", &path).run().success();
    assert_eq!(std::fs::read_to_string(keep.join("calls")).unwrap(), "get\nget\n");
}

/// Runs of every command that logs in, with all that `-v` says: none shows a password, a
/// token or what they are coded as.
#[tokio::test(flavor = "multi_thread")]
async fn no_output_shows_a_secret() {
    const SECRET: &str = "Tr0ub4dor&3";
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new(folder.path());
    let issued = Arc::new(Mutex::new(vec![SECRET.to_owned(), base64(b"me:Tr0ub4dor&3")]));
    let (own, log) = (signer.clone(), Arc::clone(&issued));
    let tokens = service(move |asked| {
        let mut issued = log.lock().unwrap();
        let refresh = asked.field("refresh_token");
        let known = refresh.is_some_and(|token| issued.iter().any(|one| one == token));
        if !known && !asked.is("me", SECRET) {
            return refused("401 Unauthorized", "nobody I know");
        }
        // Every other is one that the registry does not take.
        let turn = issued.len() / 2;
        let token = own.sign(&asked.scopes(), if turn % 2 == 0 { -1000 } else { 300 });
        let next = format!("refresh{turn}");
        issued.extend([token.clone(), next.clone()]);
        granted(&serde_json::json!({ "token": token, "refresh_token": next }))
    })
    .await;
    let registry = signer.registry(&format!("http://{}/token", tokens.addr), "");
    let host = registry.addr.clone();
    let runs = tokio::task::spawn_blocking(move || {
        let kiln = Kiln::new();
        let context = kiln.path("context");
        std::fs::create_dir(&context).unwrap();
        std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
        let mut said = String::new();
        let mut run = |line: &str, stdin: &str, good: bool| {
            for mode in ["plain", "rawjson"] {
                let mut words: Vec<&str> = line.split(' ').collect();
                let progress = ["build", "push", "pull"].contains(&words[0]);
                words.splice(1..1, ["-v", "-v"]);
                if progress {
                    words.extend(["--progress", mode]);
                }
                let output = kiln.args(&words).stdin(stdin).run();
                assert_eq!(output.code == Some(0), good, "{line}: {}", output.stderr);
                said += &output.text();
                said += &output.stderr;
            }
        };
        run(&format!("login {host} -u me --password-stdin"), SECRET, true);
        run(&format!("login {host} -u you --password-stdin"), SECRET, false);
        run(&format!("build -t {host}/app:1 --push context"), "", true);
        run(&format!("push {host}/app:1"), "", true);
        run(&format!("pull {host}/app:1"), "", true);
        run(&format!("pull {host}/none:1"), "", false);
        run(&format!("pull --creds you:{SECRET} {host}/app:1"), "", false);
        run(&format!("login --get-login {host}"), "", true);
        let config = kiln.path(".docker/config.json");
        let auths = serde_json::json!({ "auths": {
            &host: { "auth": base64(b"<token>:"), "identitytoken": SECRET },
        }});
        std::fs::write(config, auths.to_string()).unwrap();
        run(&format!("pull {host}/app:1"), "", true);
        said
    });
    let said = runs.await.unwrap();
    assert!(said.contains("nobody I know") && said.contains("user `you`"), "{said}");
    let issued = issued.lock().unwrap();
    assert!(issued.len() > 12, "{}", issued.len());
    for secret in issued.iter() {
        assert!(!said.contains(secret.as_str()), "{secret} is in: {said}");
    }
    // All of them begin so.
    assert!(!said.contains("eyJ") && !said.contains("Bearer") && !said.contains("Basic"));
}
