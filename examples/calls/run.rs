//! A table's cases, line by line.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::kernel::{self, Answer, Errno, call};
use crate::words::{Names, errno, number, pointer, text};

/// A line that is a command.
struct Line<'a> {
    number: usize,
    words: Vec<&'a str>,
}

/// Longest that a case may take, in seconds.
const PATIENCE: usize = 30;

/// Runs all cases, each in a process and a folder of its own.
pub(crate) fn table(text: &str, folder: &str) -> Result<(), String> {
    let mut cases: Vec<(usize, Vec<Line<'_>>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.starts_with("== ") {
            cases.push((at + 1, Vec::new()));
        } else if !line.is_empty() && !line.starts_with([' ', '#']) {
            let (_, lines) = cases.last_mut().ok_or("a command before the first case")?;
            lines.push(Line { number: at + 1, words: line.split(' ').collect() });
        }
    }
    for (at, lines) in cases {
        let place = Path::new(folder).join(at.to_string());
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777))
            .map_err(|e| e.to_string())?;
        let Some(child) = kernel::fork().map_err(errno)? else {
            std::env::set_current_dir(&place).map_err(|error| error.to_string())?;
            let _ = call(libc::SYS_umask, &[0o022]);
            // The kernel ends what waits for ever.
            limit(PATIENCE);
            let failed = lines_of(&lines, &mut Names::new()).err();
            if let Some(error) = &failed {
                eprintln!("calls: {error}");
            }
            kernel::exit(i32::from(failed.is_some()));
        };
        match kernel::wait(child).map_err(errno)? {
            0 => {}
            status => return Err(format!("the case of line {at} ended with status {status:#x}")),
        }
    }
    Ok(())
}

/// Ends the process with SIGALRM.
fn limit(seconds: usize) {
    let timer = [0_i64, 0, i64::try_from(seconds).unwrap_or(i64::MAX), 0];
    let _ = call(libc::SYS_setitimer, &[0, timer.as_ptr() as usize, 0]);
}

/// What a program executed of itself is to do.
pub(crate) fn one(line: &str, words: &[&str]) -> Result<(), String> {
    let line = Line { number: line.parse().map_err(|_| "no line")?, words: words.to_vec() };
    lines_of(&[line], &mut Names::new())
}

fn say(line: &str) {
    let _ = std::io::stdout().write_all(format!("{line}\n").as_bytes());
}

fn lines_of(lines: &[Line<'_>], names: &mut Names) -> Result<(), String> {
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        let here = |error: String| format!("line {}: {error}", line.number);
        match line.words.as_slice() {
            [how @ ("fork" | "daemon")] => {
                let inner = at..block_end(lines, at).ok_or_else(|| here("no end".into()))?;
                at = inner.end + 1;
                let lines = lines.get(inner).unwrap_or_default();
                block(lines, names, *how == "daemon").map_err(here)?;
            }
            words => {
                if let Some(said) =
                    command(line.number, &kernel::newer(words), names).map_err(here)?
                {
                    say(&format!("{} {said}", line.number));
                }
            }
        }
    }
    Ok(())
}

fn block_end(lines: &[Line<'_>], from: usize) -> Option<usize> {
    let mut depth = 1;
    lines.iter().enumerate().skip(from).find_map(|(at, line)| {
        match line.words.as_slice() {
            ["fork" | "daemon"] => depth += 1,
            ["end"] => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(at)
    })
}

/// Lines in a child; as a daemon, in a grandchild whose parent is gone.
fn block(lines: &[Line<'_>], names: &mut Names, daemon: bool) -> Result<(), String> {
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    if let Some(child) = kernel::fork().map_err(errno)? {
        drop(writer);
        let status = kernel::wait(child).map_err(errno)?;
        // It ends when the last one that holds the other side does.
        let mut reader = reader;
        let read = std::io::copy(&mut reader, &mut std::io::sink());
        read.map_err(|error| error.to_string())?;
        return if status == 0 { Ok(()) } else { Err(format!("a child ended with {status:#x}")) };
    }
    drop(reader);
    if daemon {
        let _ = call(libc::SYS_setsid, &[]);
        if kernel::fork().map_err(errno)?.is_some() {
            kernel::exit(0);
        }
        // Now nobody's child.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let failed = lines_of(lines, names).err();
    if let Some(error) = &failed {
        eprintln!("calls: {error}");
    }
    kernel::exit(i32::from(failed.is_some()))
}

fn told(answer: Answer) -> String {
    answer.map_or_else(errno, |value| value.to_string())
}

/// `=name` keeps a descriptor.
fn keep(to: &str, answer: Answer, names: &mut Names) -> Result<String, String> {
    let name = to.strip_prefix('=').ok_or_else(|| format!("`{to}` is no =name"))?;
    Ok(match answer {
        Ok(fd) => {
            names.insert(name.into(), fd);
            "fd".into()
        }
        Err(error) => errno(error),
    })
}

/// What the line says, unless that is said elsewhere.
fn command(at: usize, words: &[&str], names: &mut Names) -> Result<Option<String>, String> {
    let num = |word: &str, names: &Names| number(word, names).map(|value| value as usize);
    let path = |word: &str, names: &Names| pointer(word, names);
    let said = match words {
        ["ids"] => ids().unwrap_or_else(errno),
        ["caps"] => caps(),
        ["status-uid"] => status("Uid:"),
        [call @ ("stat" | "lstat"), file] => stat_old(call, &path(file, names)?),
        ["fstat", fd] => stat(libc::SYS_fstat, &|buffer| vec![num(fd, names).unwrap_or(0), buffer]),
        ["newfstatat", dir, file, flags] => {
            let (dir, flags, file) = (num(dir, names)?, num(flags, names)?, path(file, names)?);
            stat(libc::SYS_newfstatat, &|buffer| vec![dir, file.address(), buffer, flags])
        }
        ["statx", dir, file, flags, mask] => {
            let (dir, flags, mask) = (num(dir, names)?, num(flags, names)?, num(mask, names)?);
            statx(dir, path(file, names)?.address(), flags, mask)
        }
        ["openat2", to, dir, file, flags, mode, resolve] => {
            let how = [num(flags, names)?, num(mode, names)?, num(resolve, names)?];
            let file = path(file, names)?;
            let args = [num(dir, names)?, file.address(), how.as_ptr() as usize, 24];
            let answer = call(libc::SYS_openat2, &args);
            keep(to, answer, names)?
        }
        ["setgroups", list @ ..] => {
            let list: Result<Vec<u32>, _> = list.iter().map(|word| word.parse::<u32>()).collect();
            let list = list.map_err(|error| error.to_string())?;
            told(call(libc::SYS_setgroups, &[list.len(), list.as_ptr() as usize]))
        }
        ["setxattr" | "lsetxattr", file, name, value, flags] => {
            let number =
                if words[0] == "setxattr" { libc::SYS_setxattr } else { libc::SYS_lsetxattr };
            let (file, name, flags) = (path(file, names)?, path(name, names)?, num(flags, names)?);
            let value = value.as_bytes();
            let args =
                [file.address(), name.address(), value.as_ptr() as usize, value.len(), flags];
            told(call(number, &args))
        }
        ["fsetxattr", fd, name, value] => {
            let (fd, name, value) = (num(fd, names)?, path(name, names)?, value.as_bytes());
            let args = [fd, name.address(), value.as_ptr() as usize, value.len(), 0];
            told(call(libc::SYS_fsetxattr, &args))
        }
        [name @ ("getxattr" | "lgetxattr" | "fgetxattr"), file, key] => {
            let (number, first, key) =
                (xattr_number(name), path_or_fd(name, file, names)?, path(key, names)?);
            buffer(|at, size| call(number, &[first.address(), key.address(), at, size]))
        }
        [name @ ("listxattr" | "llistxattr" | "flistxattr"), file] => {
            let (number, first) = (xattr_number(name), path_or_fd(name, file, names)?);
            let text = buffer(|at, size| call(number, &[first.address(), at, size]));
            let mut keys: Vec<&str> = text.split('\0').filter(|key| !key.is_empty()).collect();
            keys.sort_unstable();
            if keys.is_empty() { "none".into() } else { keys.join(" ") }
        }
        [name @ ("removexattr" | "lremovexattr" | "fremovexattr"), file, key] => {
            let (first, key) = (path_or_fd(name, file, names)?, path(key, names)?);
            told(call(xattr_number(name), &[first.address(), key.address()]))
        }
        // Only how long it is.
        [name @ ("listxattr-size" | "getxattr-size"), file, rest @ ..] => {
            let file = path(file, names)?;
            told(match rest {
                [key] => call(
                    xattr_number(&name[..8]),
                    &[file.address(), path(key, names)?.address(), 0, 0],
                ),
                _ => call(libc::SYS_listxattr, &[file.address(), 0, 0]),
            })
        }
        ["readlink", file] => {
            let file = path(file, names)?;
            let cwd = libc::AT_FDCWD as usize;
            buffer(|at, size| call(libc::SYS_readlinkat, &[cwd, file.address(), at, size]))
        }
        ["statfs", file] => {
            let (file, buffer) = (path(file, names)?, [0_u64; 32]);
            told(call(libc::SYS_statfs, &[file.address(), buffer.as_ptr() as usize]))
        }
        // Nanoseconds that may be `NOW` or `OMIT`.
        ["settimes", dir, file, first, second, flags] => {
            let (dir, flags, file) = (num(dir, names)?, num(flags, names)?, path(file, names)?);
            let times = [1, num(first, names)?, 2, num(second, names)?];
            let args = [dir, file.address(), times.as_ptr() as usize, flags];
            told(call(libc::SYS_utimensat, &args))
        }
        ["read", fd] => {
            let fd = num(fd, names)?;
            buffer(|at, size| call(libc::SYS_read, &[fd, at, size]))
        }
        ["write", fd, word] => {
            told(call(libc::SYS_write, &[num(fd, names)?, word.as_ptr() as usize, word.len()]))
        }
        ["getrlimit", what] => rlimit(num(what, names)?, None),
        ["setrlimit", what, soft, hard] => {
            rlimit(num(what, names)?, Some([num(soft, names)?, num(hard, names)?]))
        }
        ["socketpair", a, b] => {
            let mut pair = [0_i32; 2];
            let answer = call(libc::SYS_socketpair, &[1, 1, 0, pair.as_mut_ptr() as usize]);
            keep(b, answer.map(|_| pair[1].into()), names)?;
            keep(a, answer.map(|_| pair[0].into()), names)?
        }
        ["listen", to, file] => {
            let address = address(file, names)?;
            let answer = socket().and_then(|fd| {
                call(libc::SYS_bind, &[fd as usize, address.as_ptr() as usize, address.len()])?;
                call(libc::SYS_listen, &[fd as usize, 5]).map(|_| fd)
            });
            keep(to, answer, names)?
        }
        ["connect", to, file] => {
            let address = address(file, names)?;
            let answer = socket().and_then(|fd| {
                let args = [fd as usize, address.as_ptr() as usize, address.len()];
                call(libc::SYS_connect, &args).map(|_| fd)
            });
            keep(to, answer, names)?
        }
        ["accept", to, fd] => {
            let answer = call(libc::SYS_accept4, &[num(fd, names)?, 0, 0, 0]);
            keep(to, answer, names)?
        }
        ["peercred", fd] => peercred(num(fd, names)?),
        ["memfd", to] => {
            let name = c"calls";
            let answer = call(libc::SYS_memfd_create, &[name.as_ptr() as usize, 0]);
            let said = keep(to, answer, names)?;
            if let Ok(fd) = answer {
                fs::copy("/proc/self/exe", format!("/proc/self/fd/{fd}"))
                    .map_err(|e| e.to_string())?;
            }
            said
        }
        ["copyself", file] => {
            fs::copy("/proc/self/exe", text(file, names)?.to_string_lossy().as_ref())
                .map_or_else(|error| error.to_string(), |_| "0".into())
        }
        // One that whoever executes the file gets: chown, effective (linux/capability.h).
        ["setcap", file] => {
            let value = [0x0200_0001_u32.to_le(), 1_u32.to_le(), 0, 0, 0];
            let (file, name) = (path(file, names)?, c"security.capability");
            let args = [file.address(), name.as_ptr() as usize, value.as_ptr() as usize, 20, 0];
            told(call(libc::SYS_setxattr, &args))
        }
        ["script", file, interpreter] => {
            let line = format!("#!{interpreter} --script\n");
            fs::write(file, line).map_or_else(|error| error.to_string(), |()| "0".into())
        }
        ["exec", file, rest @ ..] => {
            let error =
                Command::new(local(file)).args(["--one", &at.to_string()]).args(rest).exec();
            error.raw_os_error().map_or_else(|| error.to_string(), errno)
        }
        // By what the C library makes of it: a child that shares the memory.
        ["spawn", file, rest @ ..] => {
            let status =
                Command::new(local(file)).args(["--one", &at.to_string()]).args(rest).status();
            match status {
                Ok(status) if status.success() => return Ok(None),
                Ok(status) => status.to_string(),
                Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), errno),
            }
        }
        ["fexec", fd, rest @ ..] => {
            let words = ["calls", "--one", &at.to_string()].map(str::to_owned);
            let words = words.into_iter().chain(rest.iter().map(|word| (*word).to_owned()));
            let words: Result<Vec<_>, _> = words.map(std::ffi::CString::new).collect();
            let words = words.map_err(|error| error.to_string())?;
            let mut argv: Vec<usize> = words.iter().map(|word| word.as_ptr() as usize).collect();
            argv.push(0);
            let (empty, env) = (c"", [0_usize]);
            let flags = libc::AT_EMPTY_PATH as usize;
            let args = [
                num(fd, names)?,
                empty.as_ptr() as usize,
                argv.as_ptr() as usize,
                env.as_ptr() as usize,
                flags,
            ];
            told(call(libc::SYS_execveat, &args))
        }
        ["elsewhere", at] => elsewhere(at),
        [name, rest @ ..] => return plain(name, rest, names).map(Some),
        [] => return Err("an empty line".into()),
    };
    Ok(Some(said))
}

/// A call that takes paths and numbers and gives a number.
fn plain(name: &str, words: &[&str], names: &mut Names) -> Result<String, String> {
    let signature = kernel::signature(name).ok_or_else(|| format!("no call is named {name}"))?;
    let gives = signature.takes.ends_with('>');
    let takes = signature.takes.trim_end_matches('>');
    let (to, words) = match words.split_first() {
        Some((to, rest)) if gives => (Some(*to), rest),
        _ => (None, words),
    };
    if words.len() > takes.len() || (words.len() < takes.len() && !gives) {
        return Err(format!("{name} takes {} arguments", takes.len()));
    }
    let mut kept = Vec::new();
    let mut args = Vec::new();
    for (letter, word) in takes.chars().zip(words) {
        if letter == 'p' {
            let pointer = pointer(word, names)?;
            args.push(pointer.address());
            kept.push(pointer);
        } else {
            args.push(number(word, names)? as usize);
        }
    }
    let answer = call(signature.number, &args);
    drop(kept);
    match to {
        Some(to) => keep(to, answer, names),
        // `umask` and the like give what was.
        None if name == "umask" => Ok(answer.map_or_else(errno, |mask| format!("{mask:04o}"))),
        None => Ok(told(answer)),
    }
}

fn path_or_fd(name: &str, word: &str, names: &Names) -> Result<crate::words::Pointer, String> {
    if name.starts_with('f') {
        return Ok(crate::words::Pointer::Number(number(word, names)? as usize));
    }
    pointer(word, names)
}

fn xattr_number(name: &str) -> std::os::raw::c_long {
    match name {
        "getxattr" => libc::SYS_getxattr,
        "lgetxattr" => libc::SYS_lgetxattr,
        "fgetxattr" => libc::SYS_fgetxattr,
        "listxattr" => libc::SYS_listxattr,
        "llistxattr" => libc::SYS_llistxattr,
        "flistxattr" => libc::SYS_flistxattr,
        "removexattr" => libc::SYS_removexattr,
        "lremovexattr" => libc::SYS_lremovexattr,
        _ => libc::SYS_fremovexattr,
    }
}

/// What a call writes into a buffer, as text.
fn buffer(fill: impl FnOnce(usize, usize) -> Answer) -> String {
    let mut bytes = vec![0_u8; 4096];
    let answer = fill(bytes.as_mut_ptr() as usize, bytes.len());
    answer.map_or_else(errno, |size| {
        let size = usize::try_from(size).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..size).unwrap_or_default());
        if text.is_empty() { "nothing".into() } else { text.into_owned() }
    })
}

fn three(number: std::os::raw::c_long) -> Result<String, Errno> {
    let mut ids = [0_u32; 3];
    let at = ids.as_mut_ptr() as usize;
    call(number, &[at, at + 4, at + 8])?;
    Ok(ids.map(|id| id.to_string()).join(","))
}

fn ids() -> Result<String, Errno> {
    let mut groups = [0_u32; 64];
    let count = call(libc::SYS_getgroups, &[groups.len(), groups.as_mut_ptr() as usize])?;
    let groups = groups.iter().take(usize::try_from(count).unwrap_or(0));
    let groups: Vec<String> = groups.map(ToString::to_string).collect();
    let (uids, gids) = (three(libc::SYS_getresuid)?, three(libc::SYS_getresgid)?);
    // The kernel's own word for those of the file system: it refuses what is no ID.
    let fs = (
        call(libc::SYS_setfsuid, &[u32::MAX as usize])?,
        call(libc::SYS_setfsgid, &[u32::MAX as usize])?,
    );
    Ok(format!("uid {uids},{} gid {gids},{} groups {}", fs.0, fs.1, groups.join(",")))
}

/// Whether the capabilities that matter most are effective.
fn caps() -> String {
    // Version 3 of the structure, this process.
    let header = [0x2008_0522_u32, 0];
    let mut sets = [0_u32; 6];
    let answer = call(libc::SYS_capget, &[header.as_ptr() as usize, sets.as_mut_ptr() as usize]);
    let names = [(0, "chown"), (1, "dac_override"), (6, "setgid"), (7, "setuid"), (27, "mknod")];
    let held = names.iter().filter(|(bit, _)| sets[0] & (1 << bit) != 0).map(|(_, name)| *name);
    let held: Vec<&str> = held.collect();
    answer.map_or_else(errno, |_| if held.is_empty() { "none".into() } else { held.join(" ") })
}

fn status(key: &str) -> String {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_else(|error| error.to_string());
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("none");
    line.split_whitespace().collect::<Vec<_>>().join(",")
}

fn stat_old(name: &str, file: &crate::words::Pointer) -> String {
    #[cfg(target_arch = "x86_64")]
    let number = if name == "stat" { libc::SYS_stat } else { libc::SYS_lstat };
    #[cfg(not(target_arch = "x86_64"))]
    let number = libc::SYS_newfstatat;
    let _ = name;
    stat(number, &|buffer| vec![file.address(), buffer])
}

fn stat(number: std::os::raw::c_long, args: &dyn Fn(usize) -> Vec<usize>) -> String {
    // Large enough for every architecture's.
    let mut buffer = [0_u64; 32];
    if let Err(error) = call(number, &args(buffer.as_mut_ptr() as usize)) {
        return errno(error);
    }
    #[cfg(target_arch = "x86_64")]
    let (links, mode, uid, gid, device, size) = (
        buffer[2],
        buffer[3] as u32,
        (buffer[3] >> 32) as u32,
        buffer[4] as u32,
        buffer[5],
        buffer[6],
    );
    #[cfg(not(target_arch = "x86_64"))]
    let (links, mode, uid, gid, device, size) = (
        buffer[2] >> 32,
        buffer[2] as u32,
        buffer[3] as u32,
        (buffer[3] >> 32) as u32,
        buffer[4],
        buffer[6],
    );
    file(mode, uid, gid, links, (libc::major(device), libc::minor(device)), size)
}

fn statx(dir: usize, path: usize, flags: usize, mask: usize) -> String {
    let mut buffer = [0_u32; 64];
    if let Err(error) =
        call(libc::SYS_statx, &[dir, path, flags, mask, buffer.as_mut_ptr() as usize])
    {
        return errno(error);
    }
    // linux/stat.h: mask, blksize, attributes (8), nlink, uid, gid, mode (2), …, ino, size
    let (links, uid, gid, mode) = (buffer[4], buffer[5], buffer[6], buffer[7] & 0xffff);
    let size = u64::from(buffer[10]) | u64::from(buffer[11]) << 32;
    let device = (buffer[32], buffer[33]);
    let has = u64::from(buffer[0]) & mask as u64;
    format!("{} mask {has:#x}", file(mode, uid, gid, links.into(), device, size))
}

fn file(mode: u32, uid: u32, gid: u32, links: u64, device: (u32, u32), size: u64) -> String {
    // That of a program or of a file of the image is not the table's.
    let size = if size > 64 { "large".to_owned() } else { size.to_string() };
    let (kind, more) = match mode & libc::S_IFMT {
        libc::S_IFREG => ("file", format!(" links {links} size {size}")),
        libc::S_IFDIR => ("dir", String::new()),
        libc::S_IFLNK => ("link", format!(" links {links} size {size}")),
        libc::S_IFIFO => ("fifo", format!(" links {links}")),
        libc::S_IFSOCK => ("socket", format!(" links {links}")),
        libc::S_IFCHR => ("char", format!(" links {links} device {}:{}", device.0, device.1)),
        libc::S_IFBLK => ("block", format!(" links {links} device {}:{}", device.0, device.1)),
        _ => ("?", String::new()),
    };
    format!("{kind} {:04o} {uid}:{gid}{more}", mode & 0o7777)
}

fn rlimit(what: usize, set: Option<[usize; 2]>) -> String {
    let mut old = [0_u64; 2];
    let new = set.as_ref().map_or(0, |set| set.as_ptr() as usize);
    let at = if set.is_some() { 0 } else { old.as_mut_ptr() as usize };
    let shown = |value: u64| if value == u64::MAX { "inf".to_owned() } else { value.to_string() };
    match call(libc::SYS_prlimit64, &[0, what, new, at]) {
        Err(error) => errno(error),
        Ok(_) if set.is_some() => "0".into(),
        Ok(_) => format!("{} {}", shown(old[0]), shown(old[1])),
    }
}

fn socket() -> Answer {
    call(libc::SYS_socket, &[1, 1 | libc::SOCK_CLOEXEC as usize, 0])
}

/// A Unix address; `@name` is an abstract one.
fn address(word: &str, names: &Names) -> Result<Vec<u8>, String> {
    let path = text(word, names)?;
    let mut bytes = 1_u16.to_ne_bytes().to_vec();
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => bytes.extend([b"\0", name].concat()),
        None => bytes.extend(path.as_bytes_with_nul()),
    }
    Ok(bytes)
}

fn peercred(fd: usize) -> String {
    let (mut credentials, mut size) = ([0_u32; 3], 12_u32);
    let (at, size) = (credentials.as_mut_ptr() as usize, &raw mut size as usize);
    let level = libc::SOL_SOCKET as usize;
    match call(libc::SYS_getsockopt, &[fd, level, libc::SO_PEERCRED as usize, at, size]) {
        Err(error) => errno(error),
        Ok(_) => format!("uid {} gid {}", credentials[1], credentials[2]),
    }
}

/// A name without a slash would be searched for.
fn local(file: &str) -> String {
    if file.contains('/') { file.into() } else { format!("./{file}") }
}

/// A link to a folder of another file system.
fn elsewhere(at: &str) -> String {
    let folder = format!("/dev/shm/{}", std::process::id());
    let made = fs::create_dir(&folder)
        .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)))
        .and_then(|()| std::os::unix::fs::symlink(&folder, at));
    made.map_or_else(|error| error.to_string(), |()| "0".into())
}
