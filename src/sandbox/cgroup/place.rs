//! Where a group may be made: which hierarchy has a controller, where it is
//! mounted, and which folder in it can carry a group of kiln's.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::CgroupError;

/// Below kiln's own group, where kiln itself moves so that its group may hand
/// controllers on: in version 2 a group holds processes or hands on, not both.
const OWN_LEAF: &str = "kiln-self";

/// As deep as groups are looked for by name.
const MAX_DEPTH: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// A folder that groups can be made in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) folder: PathBuf,
    pub(super) controllers: Vec<Controller>,
    pub(super) unified: bool,
}

impl Parent {
    /// What to do about a folder that may not be written.
    pub(super) fn refusal(&self, error: &io::Error) -> String {
        let folder = self.folder.display();
        let uid = rustix::process::geteuid().as_raw();
        let names: Vec<&str> = self.controllers.iter().map(|c| c.name()).collect();
        let names = names.join(", ");
        if self.unified {
            format!(
                "{folder} may not be written by uid {uid} ({error}); have the group with the \
                 controllers {names} delegated: start kiln by `systemd-run --user --scope -p \
                 Delegate=yes`, or as root `chown {uid} {folder} {folder}/cgroup.procs \
                 {folder}/cgroup.subtree_control`"
            )
        } else {
            format!(
                "{folder} may not be written by uid {uid} ({error}); as root make a group below \
                 it, `chown -R {uid}` that, and start kiln in it"
            )
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    mounted: PathBuf,
    own: PathBuf,
    /// Empty for version 2.
    controllers: Vec<String>,
}

/// The hierarchies this process sees.
#[derive(Debug)]
pub(super) struct Layout {
    hierarchies: Vec<Hierarchy>,
}

impl Layout {
    pub(super) fn of_self() -> Result<Self, CgroupError> {
        let read = |path: &'static str| {
            fs::read_to_string(path).map_err(CgroupError::io("read", Path::new(path)))
        };
        let hierarchies = parse(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?);
        Ok(Self { hierarchies })
    }

    /// The folder that carries a controller, with the others it carries too.
    /// `wanted` are all that shall be handed on, where it is the unified one.
    pub(super) fn parent(
        &self,
        controller: Controller,
        wanted: &[Controller],
    ) -> Result<Parent, CgroupError> {
        let unavailable =
            |why: String| CgroupError::Unavailable { controller: controller.name(), why };
        let separate = self
            .hierarchies
            .iter()
            .find(|one| one.controllers.iter().any(|name| name == controller.name()));
        if let Some(one) = separate {
            let controllers = Controller::ALL.into_iter();
            let controllers = controllers.filter(|c| one.controllers.iter().any(|n| n == c.name()));
            let controllers = controllers.collect();
            return Ok(Parent { folder: one.own.clone(), controllers, unified: false });
        }
        let Some(unified) = self.hierarchies.iter().find(|one| one.controllers.is_empty()) else {
            return Err(unavailable(
                "no control group file system with this controller is mounted".to_owned(),
            ));
        };
        let mut needed: Vec<Controller> = wanted
            .iter()
            .copied()
            .filter(|c| {
                !self.hierarchies.iter().any(|h| h.controllers.iter().any(|n| n == c.name()))
            })
            .chain([controller])
            .collect();
        needed.sort_unstable();
        needed.dedup();
        unified.parent(&needed).map_err(unavailable)
    }

    /// The groups of this name with the controllers they have.
    pub(super) fn find(&self, name: &str) -> Vec<(PathBuf, Vec<Controller>, bool)> {
        let mut found = Vec::new();
        for one in &self.hierarchies {
            let walk = WalkDir::new(&one.mounted).max_depth(MAX_DEPTH).sort_by_file_name();
            let folder = walk
                .into_iter()
                .filter_entry(|entry| entry.file_type().is_dir())
                .filter_map(Result::ok)
                .find(|entry| entry.file_name() == name);
            let Some(folder) = folder.map(walkdir::DirEntry::into_path) else { continue };
            let unified = one.controllers.is_empty();
            let have = if unified {
                words(&folder.join("cgroup.controllers"))
            } else {
                one.controllers.clone()
            };
            let have = Controller::ALL.into_iter().filter(|c| have.iter().any(|n| n == c.name()));
            let have: Vec<Controller> = have.collect();
            if !have.is_empty() {
                found.push((folder, have, unified));
            }
        }
        found
    }
}

impl Hierarchy {
    /// For version 2: the nearest group, from kiln's own up, that hands on the
    /// controllers or can be made to.
    fn parent(&self, needed: &[Controller]) -> Result<Parent, String> {
        let own = if self.own.file_name().is_some_and(|name| name == OWN_LEAF) {
            self.own.parent().unwrap_or(&self.mounted)
        } else {
            &self.own
        };
        let mut first = None;
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&self.mounted)) {
            let parent =
                Parent { folder: folder.to_owned(), controllers: needed.to_vec(), unified: true };
            match parent.hand_on(folder == own) {
                Ok(()) => return Ok(parent),
                Err(why) => first = first.or(Some(why)),
            }
        }
        Err(first.unwrap_or_else(|| format!("{} is outside its mount", own.display())))
    }
}

impl Parent {
    /// Has the group hand its controllers to its children.
    fn hand_on(&self, own: bool) -> Result<(), String> {
        let folder = &self.folder;
        let missing = |names: &[String]| -> Vec<&'static str> {
            let all = self.controllers.iter().map(|c| c.name());
            all.filter(|name| !names.iter().any(|have| have == name)).collect()
        };
        let lacking = missing(&words(&folder.join("cgroup.controllers")));
        if !lacking.is_empty() {
            return Err(format!(
                "{} has no controller {}; delegate it from the group above",
                folder.display(),
                lacking.join(", ")
            ));
        }
        let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
        writable.map_err(|error| self.refusal(&error.into()))?;
        let control = folder.join("cgroup.subtree_control");
        let missing = missing(&words(&control));
        if missing.is_empty() {
            return Ok(());
        }
        let text: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        let text = text.join(" ");
        let enabled = fs::write(&control, &text).or_else(|error| {
            if own && error.kind() == io::ErrorKind::ResourceBusy {
                self.step_aside().and_then(|()| fs::write(&control, &text))
            } else {
                Err(error)
            }
        });
        enabled.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => format!(
                "{} holds other processes than kiln's, so it cannot hand on {}; start kiln in a \
                 group of its own, as by `systemd-run --user --scope -p Delegate=yes`",
                folder.display(),
                missing.join(", ")
            ),
            _ => self.refusal(&error),
        })
    }

    /// Moves kiln and what it started out of the group into a leaf below it, if
    /// nothing else is in the group.
    fn step_aside(&self) -> io::Result<()> {
        let pids: Vec<u32> = words(&self.folder.join("cgroup.procs"))
            .iter()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        if !pids.iter().all(|pid| is_own(*pid)) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let leaf = self.folder.join(OWN_LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        for pid in pids {
            match fs::write(leaf.join("cgroup.procs"), pid.to_string()) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Whether a process is kiln or descends from it.
fn is_own(pid: u32) -> bool {
    let own = std::process::id();
    let parent = |pid: u32| -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
    };
    std::iter::successors(Some(pid), |pid| parent(*pid))
        .take_while(|pid| *pid != 0)
        .any(|pid| pid == own)
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Joins the lines of /proc/self/cgroup with the mounts of /proc/self/mountinfo.
fn parse(cgroup: &str, mountinfo: &str) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let controllers: Vec<String> =
            controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let mount = mountinfo.lines().filter_map(mount).find(|mount| {
            if controllers.is_empty() {
                mount.kind == "cgroup2"
            } else {
                let options: Vec<&str> = mount.options.split(',').collect();
                mount.kind == "cgroup"
                    && controllers.iter().all(|name| options.contains(&name.as_str()))
            }
        });
        let Some(mount) = mount else { continue };
        // A path with `..` lies outside the cgroup namespace, one not below the
        // mount's root outside the mount.
        let Ok(below) = Path::new(path).strip_prefix(&mount.root) else { continue };
        if below.components().any(|part| part == Component::ParentDir) {
            continue;
        }
        let own = if below.as_os_str().is_empty() {
            mount.mounted.clone()
        } else {
            mount.mounted.join(below)
        };
        hierarchies.push(Hierarchy { mounted: mount.mounted, own, controllers });
    }
    hierarchies
}

struct CgroupMount<'a> {
    root: PathBuf,
    mounted: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// The fields of a line that matter (proc_pid_mountinfo(5)).
fn mount(line: &str) -> Option<CgroupMount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ').skip(3);
    let (root, mounted) = (unescape(fields.next()?), unescape(fields.next()?));
    let mut fields = after.split(' ');
    let (kind, _, options) = (fields.next()?, fields.next()?, fields.next()?);
    Some(CgroupMount { root, mounted, kind, options })
}

/// Blanks and backslashes are octal there.
fn unescape(field: &str) -> PathBuf {
    let text = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    PathBuf::from(text.replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Folders with the files of version 2 stand in for the kernel's.
    #[test]
    fn a_parent_that_hands_on() {
        let controllers = [Controller::Memory, Controller::Pids];
        // Of the own group and the one above: controllers, and those handed on.
        for (own, above, expected, written) in [
            (("cpu memory pids", "memory pids"), ("", ""), Some("above/own"), "memory pids"),
            (("cpu memory pids", "pids"), ("", ""), Some("above/own"), "+memory"),
            (("memory pids", ""), ("", ""), Some("above/own"), "+memory +pids"),
            (("memory", ""), ("memory pids", "memory pids"), Some("above"), ""),
            (("memory", ""), ("memory", ""), None, ""),
            (("", ""), ("", ""), None, ""),
        ] {
            let mounted = tempfile::tempdir().unwrap();
            let mounted = mounted.path();
            let folders = [(mounted.join("above"), above), (mounted.join("above/own"), own)];
            for (folder, (have, handed)) in &folders {
                fs::create_dir(folder).unwrap();
                fs::write(folder.join("cgroup.controllers"), have).unwrap();
                fs::write(folder.join("cgroup.subtree_control"), handed).unwrap();
            }
            for place in [folders[1].0.clone(), folders[1].0.join(OWN_LEAF)] {
                let hierarchy =
                    Hierarchy { mounted: mounted.to_owned(), own: place, controllers: vec![] };
                let found = hierarchy.parent(&controllers);
                let folder = found.as_ref().map(|parent| parent.folder.as_path()).ok();
                assert_eq!(folder, expected.map(|path| mounted.join(path)).as_deref());
                if let Err(why) = found {
                    assert!(why.contains("above/own has no controller"), "{why}");
                }
                let control = folders[1].0.join("cgroup.subtree_control");
                assert_eq!(fs::read_to_string(control).unwrap(), written);
                fs::write(folders[1].0.join("cgroup.subtree_control"), own.1).unwrap();
            }
        }
    }

    #[test]
    fn own_folders() {
        let check = |cgroup: &str, mountinfo: &str, expected: &[(&str, &str)]| {
            let found: Vec<(String, String)> = parse(cgroup, mountinfo)
                .into_iter()
                .map(|one| (one.controllers.join(","), one.own.display().to_string()))
                .collect();
            let expected: Vec<(String, String)> =
                expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!(found, expected);
        };
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        check("0::/user.slice/a.scope\n", unified, &[("", "/sys/fs/cgroup/user.slice/a.scope")]);
        check("0::/\n", unified, &[("", "/sys/fs/cgroup")]);
        check("0::/../other\n", unified, &[]);
        check("garbage\n0::/x\n", "garbage\n", &[]);
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                      32 30 0:28 /docker/1 /sys/fs/cgroup/memory ro shared:1 - cgroup c rw,memory\n\
                      33 30 0:29 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n";
        check(
            "4:cpu,cpuacct:/a\n3:memory:/docker/1/b\n2:name=systemd:/\n1:pids:/\n0::/c\n",
            hybrid,
            &[
                ("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a"),
                ("memory", "/sys/fs/cgroup/memory/b"),
                ("", "/sys/fs/cgroup/uni fied/c"),
            ],
        );
        check("3:memory:/elsewhere\n", hybrid, &[]);
    }
}
