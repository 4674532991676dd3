//! What is asked of a build, and what it works with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::again::Outcome;
use super::cache::Cache;
use super::files::Files;
use super::given::Given;
use super::sources::Sources;
use crate::atomic::{AtPath as _, PathError};
use crate::diagnostic::Source;
use crate::dockerfile::RunNetwork;
use crate::epoch::Epoch;
use crate::image::{AnyImage, Style};
use crate::layer::LayerForm;
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;
use crate::registry::{Registries, Uploads};
use crate::sandbox::{Cancel, Conditions, Limits, Tier};
use crate::store::Store;

/// What is to be built.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub dockerfile: Source,
    /// The build context.
    pub context: Files,
    /// The text of `.dockerignore`, with its name for messages.
    pub ignore: Option<Source>,
    /// `--build-context`: what stands for a name ([`PlanRequest::contexts`](crate::plan::PlanRequest)).
    pub contexts: Vec<(String, ContextSource)>,
    /// One gives an image, several an index. None means this machine's.
    pub platforms: Vec<Platform>,
    pub target: Option<String>,
    pub build_args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Annotations and media types of the image.
    pub style: Style,
    /// Names that the store keeps the image under.
    pub names: Vec<Reference>,
    pub epoch: Epoch,
    pub form: LayerForm,
    /// Fetch of the bases what no step reads as well: the result is to be used as it lies
    /// in the store. Without it, it goes to registries only.
    pub whole: bool,
    /// Make every step anew.
    pub no_cache: bool,
    /// Make the steps of these stages anew.
    pub no_cache_filter: Vec<String>,
    /// Ask the registry for bases even if the store has them.
    pub pull: bool,
    /// Take this sandbox and no other.
    pub sandbox: Option<Tier>,
    /// Those of the steps: a second build has others.
    pub conditions: Conditions,
    /// What each `RUN` may use; its cgroup's name is the build's to choose.
    pub limits: Limits,
    /// The network of a `RUN` that names none.
    pub network: RunNetwork,
    /// Allow `RUN --security=insecure`.
    pub insecure: bool,
    /// Take out of the layers of `RUN` what every build leaves otherwise, and nothing needs.
    pub normalize: bool,
    /// Names that a `RUN` finds in its `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    pub given: Given,
}

impl BuildRequest {
    /// The usual request: the context's own `Dockerfile` and ignore file, this
    /// machine's platform, one name.
    ///
    /// # Errors
    /// If there is no Dockerfile that can be read.
    pub fn of(context: &Path, name: &Reference) -> Result<Self, PathError> {
        let dockerfile = context.join("Dockerfile");
        let text = std::fs::read_to_string(&dockerfile).at("read", &dockerfile)?;
        let ignore = context.join(".dockerignore");
        let ignore = match std::fs::read_to_string(&ignore) {
            Ok(text) => Some(Source::new(ignore.display().to_string(), text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).at("read", &ignore),
        };
        Ok(Self {
            dockerfile: Source::new(dockerfile.display().to_string(), text),
            context: Files::Folder(context.to_path_buf()),
            ignore,
            contexts: Vec::new(),
            platforms: Vec::new(),
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            style: Style::default(),
            names: vec![name.clone()],
            epoch: Epoch::default(),
            form: LayerForm::default(),
            whole: true,
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            sandbox: None,
            conditions: Conditions::Usual,
            limits: Limits::default(),
            network: RunNetwork::Default,
            insecure: false,
            normalize: false,
            hosts: Vec::new(),
            given: Given::default(),
        })
    }
}

/// What a name of `--build-context` stands for.
#[derive(Debug, Clone)]
pub enum ContextSource {
    /// An image that the store or a registry has.
    Image(Reference),
    /// An image that is in the store without a name; one is made up for messages.
    Loaded {
        name: Reference,
        image: Box<AnyImage>,
    },
    Scratch,
    Folder {
        path: PathBuf,
        ignore: Option<Source>,
    },
    /// Files that no ignore file is for.
    Files(Files),
}

/// What a build works with.
#[derive(Debug)]
pub struct BuildEnv<'a> {
    pub store: &'a Store,
    pub registries: &'a Registries,
    pub progress: &'a Progress,
    pub cancel: &'a Cancel,
    /// Told of each layer of the result as soon as it is known.
    pub ready: Option<&'a Uploads>,
    /// Steps that are known from elsewhere, and those that are given on.
    pub cache: &'a Cache,
    /// What the inputs are held to, and where those that were used are noted.
    pub sources: &'a Sources,
    /// Told of what each step came to.
    pub outcome: Option<&'a Outcome>,
}
