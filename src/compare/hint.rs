//! Files that seldom come out the same twice: why, and what to do about it.

use super::report::Content;

/// What a path must be, without its leading slash.
enum Place {
    Is(&'static str),
    /// Everything below a folder.
    Below(&'static str),
    /// Everything whose path begins so.
    Begins(&'static str),
    /// A last part of the path, wherever it lies.
    Named(&'static str),
    /// A folder of that name somewhere above.
    In(&'static str),
    Ends(&'static str),
}

use Place::{Begins, Below, Ends, In, Is, Named};

/// The first that fits counts.
const HINTS: &[(&[Place], &str)] = &[
    (
        &[Below("var/log/apt"), Is("var/log/dpkg.log"), Is("var/log/alternatives.log")],
        "package managers log with times; remove /var/log/apt, /var/log/dpkg.log and \
         /var/log/alternatives.log in the same RUN, or `build --normalize`",
    ),
    (
        &[Is("var/log/lastlog"), Is("var/log/wtmp"), Is("var/log/btmp"), Is("var/log/faillog")],
        "logins are logged here as users are made; `useradd --no-log-init`, or remove it in the same RUN",
    ),
    (&[Below("var/log")], "a log with times; remove it in the same RUN"),
    (
        &[Below("var/lib/apt/lists"), Below("var/cache/apt")],
        "lists and packages of the day; `rm -rf /var/lib/apt/lists/* /var/cache/apt` in the same \
         RUN, or RUN --mount=type=cache; a snapshot mirror gives the same versions",
    ),
    (
        &[
            Below("var/lib/dpkg"),
            Below("lib/apk/db"),
            Below("var/lib/rpm"),
            Below("usr/lib/sysimage/rpm"),
        ],
        "the package database: other packages, or other versions, were installed; pin versions \
         or use a snapshot mirror",
    ),
    (
        &[Is("var/cache/ldconfig/aux-cache")],
        "ldconfig keeps inodes and times of libraries here; remove it in the same RUN, or \
         `build --normalize`",
    ),
    (
        &[Is("etc/ld.so.cache")],
        "ldconfig lists the libraries that were there; other libraries, or another order of \
         installing, change it",
    ),
    (
        &[In("__pycache__"), Ends(".pyc")],
        "Python notes the source's time in what it compiles; PYTHONDONTWRITEBYTECODE=1, \
         `pip install --no-compile`, or SOURCE_DATE_EPOCH (then pyc files have hashes)",
    ),
    (
        &[Is("etc/machine-id"), Is("var/lib/dbus/machine-id")],
        "a random ID of the machine; empty /etc/machine-id and remove /var/lib/dbus/machine-id \
         in the same RUN, or `build --normalize`: it is made at the first start",
    ),
    (
        &[
            Is("var/lib/systemd/random-seed"),
            Is("var/lib/urandom/random-seed"),
            Named("random-seed"),
            Named(".rnd"),
        ],
        "a seed for random numbers, which no two machines may share; remove it in the same RUN",
    ),
    (
        &[Is("etc/shadow"), Is("etc/shadow-"), Is("etc/gshadow"), Is("etc/gshadow-")],
        "the third field is the day of the last change of a password; SOURCE_DATE_EPOCH (`ARG` \
         in the Dockerfile) fixes it with shadow 4.7 or later, `build --normalize` otherwise",
    ),
    (
        &[Is("etc/passwd-"), Is("etc/group-"), Is("etc/subuid-"), Is("etc/subgid-")],
        "a copy from before the last change of users; remove it in the same RUN, or \
         `build --normalize`",
    ),
    (
        &[Begins("etc/ssh/ssh_host_")],
        "keys of the host are made when the server is installed; remove /etc/ssh/ssh_host_* in \
         the same RUN: all containers would share them",
    ),
    (
        &[Below("etc/ssl/private"), Is("etc/ssl/certs/ssl-cert-snakeoil.pem")],
        "a key that was made when the package was installed; remove it in the same RUN",
    ),
    (
        &[
            Below("etc/ssl/certs"),
            Below("etc/pki"),
            Below("usr/local/share/ca-certificates"),
            Named("cacerts"),
        ],
        "the bundle of certificates: another version of ca-certificates, or another order of \
         its parts; pin the package's version",
    ),
    (
        &[Is("etc/mailname"), Is("etc/postfix/main.cf")],
        "the name of the host that built it; write the name that is wanted in the same RUN",
    ),
    (
        &[Is("etc/hostname"), Is("etc/hosts"), Is("etc/resolv.conf"), Is("etc/mtab")],
        "files of the machine that built it; builders mount theirs here and leave them out",
    ),
    (
        &[
            Below("var/cache/fontconfig"),
            Named("icon-theme.cache"),
            Named("mimeinfo.cache"),
            Named("giomodule.cache"),
        ],
        "a cache that holds times of folders; remove it in the same RUN, or set SOURCE_DATE_EPOCH",
    ),
    (
        &[Below("var/cache/debconf"), Below("var/cache/man")],
        "a cache of the package manager; remove it in the same RUN",
    ),
    (&[Below("var/cache")], "a cache; remove it in the same RUN, or use RUN --mount=type=cache"),
    (
        &[In("go-build"), Below("go/pkg/mod/cache"), Below("root/go/pkg")],
        "Go's caches; RUN --mount=type=cache,target=/root/.cache/go-build keeps them out of the layer",
    ),
    (
        &[Named(".bash_history"), Named(".wget-hsts"), Named(".lesshst"), Named(".python_history")],
        "a tool's history of what was done; remove it in the same RUN",
    ),
    (
        &[Begins("var/lib/dnf/history.sqlite")],
        "dnf's history, with times; remove it in the same RUN",
    ),
    (
        &[
            In("_cacache"),
            In("_logs"),
            In(".npm"),
            Named(".package-lock.json"),
            Named(".yarn-integrity"),
        ],
        "npm's cache and logs; RUN --mount=type=cache,target=/root/.npm, or `npm cache clean --force`",
    ),
    (
        &[Below("root/.cache/pip"), Named("direct_url.json"), Named("RECORD"), Named("INSTALLER")],
        "what pip keeps or lists; PIP_NO_CACHE_DIR=1, and pinned versions with hashes",
    ),
    (
        &[In(".cache"), In(".cargo"), In(".gradle"), In(".m2"), In(".ccache")],
        "a cache of a tool; RUN --mount=type=cache keeps it out of the layer",
    ),
    (
        &[In(".git")],
        "a repository's index and logs have times; copy the files without .git, or remove it in \
         the same RUN",
    ),
    (
        &[Below("tmp"), Below("var/tmp"), Below("run")],
        "left by a program that ran; remove it in the same RUN, or RUN --mount=type=tmpfs",
    ),
];

/// What is known of a path; a whiteout's is that of what is gone.
pub(super) fn of(path: &[u8]) -> Option<&'static str> {
    let fits = |place: &Place| match place {
        Is(whole) => path == whole.as_bytes(),
        Below(folder) => {
            path.strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"))
        }
        Begins(begin) => path.starts_with(begin.as_bytes()),
        Named(name) => path.rsplit(|c| *c == b'/').next() == Some(name.as_bytes()),
        In(folder) => {
            let mut above = path.split(|c| *c == b'/').rev().skip(1);
            above.any(|part| part == folder.as_bytes())
        }
        Ends(ending) => path.ends_with(ending.as_bytes()),
    };
    HINTS.iter().find(|(places, _)| places.iter().any(fits)).map(|(_, hint)| *hint)
}

/// Fields of contents that are times of the build: how they begin and end, and what to do.
const FORMATS: &[(&str, &str, &str)] = &[
    ("gzip.mtime", "", "gzip notes the time; `gzip -n`, or read from a pipe"),
    (
        "member ",
        " date",
        "archives note times of their members; `ar rcD`, `zip -X` of files with fixed times, `jar --date`",
    ),
    (
        "member ",
        " mtime",
        "archives note times of their members; `tar --mtime=@0 --sort=name --owner=0 --group=0`",
    ),
    (
        "section .note.go.buildid",
        "",
        "Go's build ID follows from its inputs and flags; `-trimpath`, and the same version of Go",
    ),
];

/// What is known of contents that differ so.
pub(super) fn of_content(content: &Content) -> Option<&'static str> {
    let fits = |(begin, end, _): &&(&str, &str, &str)| {
        content.fields.iter().any(|one| one.field.starts_with(begin) && one.field.ends_with(end))
    };
    let found = FORMATS.iter().find(fits).map(|(.., hint)| *hint);
    found.or_else(|| of_content(content.inside.as_deref()?))
}

/// What is known of files of which only times differ.
pub(super) const TIMES: &str = "set SOURCE_DATE_EPOCH to the same time for both builds; for files \
                                that a RUN writes, kiln gives all new ones that time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_places() {
        for (path, says) in [
            ("var/log/apt/history.log", "package managers log"),
            ("var/log/x", "a log"),
            ("var/lib/apt/lists/x", "lists and packages"),
            ("var/lib/dpkg/status", "package database"),
            ("var/cache/ldconfig/aux-cache", "inodes"),
            ("etc/ld.so.cache", "libraries"),
            ("usr/lib/python3/__pycache__/a.cpython-312.pyc", "Python"),
            ("etc/machine-id", "random ID"),
            ("var/lib/systemd/random-seed", "seed"),
            ("etc/shadow-", "third field"),
            ("etc/ssl/certs/ca-certificates.crt", "bundle"),
            ("etc/resolv.conf", "machine that built"),
            ("var/cache/x/y", "a cache"),
            ("root/.cache/go-build/00/x", "Go's"),
            ("root/.npm/_cacache/x", "npm's"),
            ("root/.cache/pip/x", "pip"),
            ("home/me/.cache/pip/x", "a cache of a tool"),
            ("etc/ssh/ssh_host_rsa_key", "keys of the host"),
            ("app/.git/index", "repository"),
            ("var/log/lastlog", "logins are logged"),
            ("var/log/dpkg.log", "--normalize"),
            ("var/log/alternatives.log", "--normalize"),
            ("lib/apk/db/installed", "package database"),
            ("var/lib/rpm/rpmdb.sqlite", "package database"),
            ("var/cache/apt/pkgcache.bin", "lists and packages"),
            ("var/cache/debconf/config.dat-old", "package manager"),
            ("var/cache/fontconfig/x", "times of folders"),
            ("var/lib/dbus/machine-id", "random ID"),
            ("etc/passwd-", "before the last change"),
            ("etc/ssl/private/ssl-cert-snakeoil.key", "made when the package was installed"),
            ("etc/ssl/certs/ssl-cert-snakeoil.pem", "made when the package was installed"),
            ("etc/mailname", "name of the host"),
            ("root/.bash_history", "history"),
            ("var/lib/dnf/history.sqlite", "dnf's history"),
            ("tmp/x", "left by a program"),
        ] {
            let hint = of(path.as_bytes()).unwrap_or_default();
            assert!(hint.contains(says), "{path}: {hint}");
        }
        for path in [
            "",
            "etc",
            "etc/passwd",
            "usr/bin/sh",
            "var/cache",
            "srv/tmp",
            "etc/ssh/ssh_config",
            "usr/lib/python3/site-packages/pip/main.py",
        ] {
            assert_eq!(of(path.as_bytes()), None, "{path}");
        }
    }
}
