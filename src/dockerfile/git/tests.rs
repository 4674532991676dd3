use super::*;

fn source(remote: &str, transport: Transport, host: &str) -> GitSource {
    GitSource {
        remote: remote.to_owned(),
        transport,
        host: host.to_owned(),
        login: None,
        reference: None,
        checksum: None,
        subdir: String::new(),
        keep_git_dir: None,
        submodules: None,
        by_commit: false,
        time: GitTime::Checkout,
    }
}

fn read(text: &str) -> GitSource {
    GitSource::parse(text).expect(text).expect(text)
}

#[test]
fn what_is_a_repository() {
    let https = |remote: &str| source(remote, Transport::Http, "h.example");
    for (text, want) in [
        ("https://h.example/a/b.git", https("https://h.example/a/b.git")),
        ("HTTPS://h.example/b.git", https("https://h.example/b.git")),
        ("http://h.example/.git", https("http://h.example/.git")),
        ("git://h/x", source("git://h/x", Transport::Git, "h")),
        ("ssh://git@h:22/x", source("ssh://git@h:22/x", Transport::Ssh, "h:22")),
        ("git@h.example:a/b", source("git@h.example:a/b", Transport::Ssh, "h.example")),
        ("u_1@h:~/b.git", source("u_1@h:~/b.git", Transport::Ssh, "h")),
        ("https://me@h.example/b.git", https("https://me@h.example/b.git")),
    ] {
        assert_eq!(read(text), want, "{text}");
    }
    for text in [
        "https://h/a.tar.gz",
        "https://h/a.git/x",
        "https://h/a?b=.git",
        "ftp://h/a.git",
        "github.com/a/b",
        "./a@b:c",
        "a@b",
        "a b@c:d",
        "https/a.git",
        "file:///a.git",
    ] {
        assert_eq!(GitSource::parse(text), None, "{text}");
    }
    let github = GitSource::parse_context("github.com/a/b#v1:c").unwrap().unwrap();
    assert_eq!(github.remote, "https://github.com/a/b");
    assert_eq!(github.reference.as_deref(), Some("v1"));
    assert_eq!(github.subdir, "c");
    assert_eq!(GitSource::parse_context("a/b"), None);
}

#[test]
fn passwords_stay_out_of_the_remote() {
    let read = read("https://u:p%40q@h/a.git");
    assert_eq!(read.remote, "https://h/a.git");
    let login = Login { user: "u".to_owned(), password: "p@q".to_owned() };
    assert_eq!(read.login, Some(login));
    assert!(!format!("{read:?}").contains("p@q"));
    assert_eq!(self::read("ssh://u:p@h/a").remote, "ssh://u@h/a");
}

#[test]
fn refs_and_folders() {
    for (end, reference, subdir) in [
        ("", None, ""),
        ("#", None, ""),
        ("#v1", Some("v1"), ""),
        ("#:a/b/", None, "a/b"),
        ("#v1:../a/./b", Some("v1"), "a/b"),
        ("#refs/heads/x:/", Some("refs/heads/x"), ""),
        ("#a%20b", Some("a b"), ""),
        ("?ref=v1", Some("v1"), ""),
        ("?ref=v1#v1", Some("v1"), ""),
        ("?tag=v1", Some("refs/tags/v1"), ""),
        ("?tag=refs/tags/v1#refs/tags/v1", Some("refs/tags/v1"), ""),
        ("?branch=a/b", Some("refs/heads/a/b"), ""),
        ("?subdir=a&ref=v1", Some("v1"), "a"),
        ("?subdir=a%2Fb#:a/b", None, "a/b"),
        ("#v1?ref=v2", Some("v1?ref=v2"), ""),
    ] {
        for start in ["https://h/a.git", "git@h:a.git", "ssh://h/a", "git://h/a"] {
            let read = read(&format!("{start}{end}"));
            assert_eq!(read.remote, start, "{end}");
            assert_eq!((read.reference.as_deref(), read.subdir.as_str()), (reference, subdir));
        }
    }
}

#[test]
fn queries() {
    let all = read("https://h/a.git?commit=aB1&keep-git-dir&submodules=false&mtime=commit");
    assert_eq!(all.checksum.as_deref(), Some("aB1"));
    assert_eq!((all.keep_git_dir, all.submodules), (Some(true), Some(false)));
    assert_eq!((all.time, all.by_commit), (GitTime::Commit, false));
    assert!(read("git@h:a?fetch-by-commit=1").by_commit);
    assert_eq!(read("git@h:a?checksum=12").checksum.as_deref(), Some("12"));
    assert_eq!(read("git@h:a?keep-git-dir=0").keep_git_dir, Some(false));
    for (end, says) in [
        ("?depth=1", "`depth` is not known"),
        ("?ref=", "`ref` has no value"),
        ("?ref", "`ref` has no value"),
        ("?ref=a&ref=a", "`ref` is there twice"),
        ("?ref=a#b", "the ref conflicts: the git URL says both `b` and `a`"),
        ("?tag=a&branch=b", "tag and branch conflicts"),
        ("?tag=v1#refs/heads/v1", "the ref conflicts"),
        ("?subdir=a#:b", "the folder conflicts"),
        ("?checksum=1&commit=2", "the checksum conflicts"),
        ("?keep-git-dir=maybe", "`keep-git-dir` cannot be `maybe`"),
        ("?mtime=now", "`mtime` cannot be `now`"),
        ("#-upload-pack=x", "cannot be the name of a git ref"),
        ("#a%0Ab", "cannot be the name of a git ref"),
    ] {
        let said = GitSource::parse(&format!("https://h/a.git{end}")).unwrap().unwrap_err();
        assert!(said.to_string().contains(says), "{end}: {said}");
    }
    for text in ["-o@h:a", "ssh://-oProxyCommand=x/a", "git://-h/a"] {
        let said = GitSource::parse(text).unwrap().unwrap_err();
        assert!(matches!(said, GitSourceError::Host(_)), "{text}: {said}");
    }
}

#[test]
fn checksums() {
    let one = read("git@h:a?commit=12");
    assert!(one.clone().with_checksum("12").is_ok());
    assert!(one.with_checksum("13").is_err());
    assert!(GitSource::is_checksum("aF0") && !GitSource::is_checksum("foobar"));
    assert!(GitSource::is_commit(&"0a".repeat(20)) && GitSource::is_commit(&"0a".repeat(32)));
    assert!(!GitSource::is_commit(&"0A".repeat(20)) && !GitSource::is_commit("0a"));
}
