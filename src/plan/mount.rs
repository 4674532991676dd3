//! `RUN --mount`: flags become what a step is given.

use crate::diagnostic::Diagnostic;
use crate::dockerfile::{Mount, MountType, Run, Spanned, expand};

use super::bases::Origin;
use super::graph::StepId;
use super::instruction::InStage;
use super::op::{CacheMount, CopyFrom, MountSource, RunMount, SecretMount, SshMount};
use super::path;

/// Where secrets appear that name no place.
const SECRETS: &str = "/run/secrets";
/// Where agents do: BuildKit's name, which scripts rely on.
const AGENTS: &str = "/run/buildkit/ssh_agent";

impl InStage<'_, '_, '_> {
    /// The mounts of a `RUN`. The roots they read are added to `more`, which are
    /// the step's inputs behind the first. None if something is wrong.
    pub(super) fn mounts(
        &mut self,
        number: usize,
        run: &Run,
        more: &mut Vec<StepId>,
    ) -> Option<Vec<RunMount>> {
        let read: Vec<Option<Mount>> = run.mounts.iter().map(|flag| self.read(flag)).collect();
        let read: Vec<Mount> = read.into_iter().collect::<Option<_>>()?;
        let mut agents = 0;
        let mut mounts = Vec::with_capacity(read.len());
        for (at, mount) in read.into_iter().enumerate() {
            let target = path::join(&self.cwd(), &mount.target);
            let needs_target =
                matches!(mount.kind, MountType::Bind | MountType::Cache | MountType::Tmpfs);
            if needs_target && target == "/" {
                let said = match mount.target.as_str() {
                    "" => "a mount needs a target: where in the root it appears",
                    _ => "a mount cannot cover the whole root",
                };
                self.walk.out.push(
                    Diagnostic::error(mount.span, said)
                        .hint("name a folder below the root: target=/src"),
                );
                return None;
            }
            let read_only = mount.read_only;
            mounts.push(match mount.kind {
                MountType::Bind => {
                    let source = self.mount_source(number, at, &mount, more)?;
                    RunMount::Bind { source, target, read_only }
                }
                MountType::Cache => {
                    self.walk.uses.cache(self.at, &mount, run.span);
                    let seed = match &mount.from {
                        Some(_) => Some(self.mount_source(number, at, &mount, more)?),
                        None => None,
                    };
                    let id = mount.id.clone().unwrap_or_else(|| path::join("/", &mount.target));
                    RunMount::Cache(CacheMount {
                        id: match self.walk.ask.setting("CACHE_MOUNT_NS") {
                            Some(space) => format!("{space}/{id}"),
                            None => id,
                        },
                        target,
                        sharing: mount.sharing,
                        seed,
                        mode: mount.mode.unwrap_or(0o755),
                        owner: owner(&mount),
                        read_only,
                    })
                }
                MountType::Tmpfs => {
                    let size = mount.size.filter(|size| *size > 0);
                    RunMount::Tmpfs { target, size, read_only }
                }
                MountType::Secret => {
                    let secret = secret(&mount, target);
                    self.walk.uses.secret(self.at, &secret.id, secret.required, run.span);
                    RunMount::Secret(secret)
                }
                MountType::Ssh => {
                    let place = match mount.target.as_str() {
                        "" => format!("{AGENTS}.{agents}"),
                        _ => target,
                    };
                    agents += 1;
                    let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                    self.walk.uses.ssh(self.at, &id, mount.required, run.span);
                    RunMount::Ssh(SshMount {
                        id,
                        target: place,
                        required: mount.required,
                        span: mount.span,
                    })
                }
            });
        }
        Some(mounts)
    }

    fn read(&mut self, flag: &Spanned<String>) -> Option<Mount> {
        let (vars, escape) = (&self.state.vars, self.walk.file.escape);
        let mut undefined = Vec::new();
        let read = Mount::parse(flag, &mut |value| {
            let filled = expand(value, escape, &|name| vars.get(name).map(str::to_owned))
                .map_err(|error| Diagnostic::error(flag.span, error.problem.to_string()))?;
            undefined.extend(filled.undefined().map(|used| (used.name.clone(), flag.span)));
            Ok(filled.value)
        });
        self.warn(undefined);
        read.map_err(|said| self.walk.out.push(said)).ok()
    }

    fn mount_source(
        &mut self,
        number: usize,
        at: usize,
        mount: &Mount,
        more: &mut Vec<StepId>,
    ) -> Option<MountSource> {
        let from = match self.walk.layout.mounts.get(&(self.at, number, at)) {
            None if mount.from.is_none() => CopyFrom::Context,
            // Said to be wrong when the layout was made.
            None => return None,
            Some(Origin::Files(context)) => CopyFrom::Named(*context),
            Some(Origin::Stage(other)) => {
                let root = *self.walk.roots.get(other)?;
                more.push(root);
                CopyFrom::Input(more.len())
            }
            Some(origin) => {
                let span = mount.from.as_ref().map_or(mount.span, |from| from.span);
                let root = self.walk.base(origin, span, &mut |text| text.to_owned())?;
                more.push(root);
                CopyFrom::Input(more.len())
            }
        };
        Some(MountSource { from, path: path::below_root(&mount.source), span: mount.span })
    }
}

fn owner(mount: &Mount) -> (u32, u32) {
    (mount.uid.unwrap_or_default(), mount.gid.unwrap_or_default())
}

/// `at` is the target from where the stage stands.
fn secret(mount: &Mount, at: String) -> SecretMount {
    let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let given = Some(mount.source.clone()).filter(|source| !source.is_empty());
    let id = given.or_else(|| mount.id.clone()).unwrap_or_else(|| base(&mount.target));
    let env = mount.env.clone().map(|name| if name.is_empty() { id.clone() } else { name });
    let target = match mount.target.as_str() {
        // A variable alone, or the usual place.
        "" => env.is_none().then(|| format!("{SECRETS}/{}", base(&id))),
        _ => Some(at),
    };
    SecretMount {
        id,
        target,
        env,
        mode: mount.mode.unwrap_or(0o400),
        owner: owner(mount),
        required: mount.required,
        span: mount.span,
    }
}
