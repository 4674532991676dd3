//! Policies: who may vouch for which images, and for what.
//!
//! ```toml
//! version = 1
//!
//! [keys]                              # names for keys: files beside the policy, or PEM
//! release = "release.pub"
//! builder = "builder.pub"
//!
//! [[image]]                           # the first whose `names` fit is the image's
//! names = ["registry.example/app/**"] # `*` stands for anything but `/`, `**` for anything
//! signed-by = ["release", "builder"]
//! threshold = 2                       # how many of them; all, if it is left out
//! same-name = true                    # each signature names the repository it is asked for in
//! annotations = { env = "prod" }      # what each signature has
//!
//! [image.provenance]                  # SLSA provenance v1, signed too
//! signed-by = ["builder"]
//! builders = ["https://ci.example/**"]
//! materials = ["pkg:docker/**", "sha256:0123…"]   # what may have gone in: URIs or digests
//! lock = "kiln.lock"                  # each is listed there
//! complete = true                     # and it says that these are all
//!
//! [[image.attestation]]               # one of this type, signed
//! type = "spdxjson"
//! signed-by = ["builder"]
//! ```
//!
//! A field that is not known is an error, so that a slip does not become a rule less. An image
//! for which there is no rule is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::error::SignError;
use super::key::{self, PrivateKey, PublicKey};
use super::statement::{predicate_type, type_names};
use crate::atomic::AtPath as _;
use crate::digest::BlobDigest;
use crate::image::strict_json;
use crate::lock::{Entry, Lock};
use crate::reference::Reference;

/// Most bytes of a policy or of a lock that it names.
const MOST: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    version: u32,
    keys: BTreeMap<String, String>,
    image: Vec<WireRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireRule {
    names: Vec<String>,
    signed_by: Vec<String>,
    threshold: Option<usize>,
    #[serde(default)]
    same_name: bool,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    provenance: Option<WireProvenance>,
    #[serde(default)]
    attestation: Vec<WireAttestation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireProvenance {
    signed_by: Vec<String>,
    builders: Option<Vec<String>>,
    materials: Option<Vec<String>>,
    lock: Option<PathBuf>,
    #[serde(default)]
    complete: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct WireAttestation {
    #[serde(rename = "type")]
    kind: String,
    signed_by: Vec<String>,
}

/// A key with the name that messages call it by.
#[derive(Debug, Clone)]
pub struct Signer {
    pub name: String,
    pub key: PublicKey,
}

/// What an image has to have.
#[derive(Debug)]
pub struct Rule {
    /// What it is called in messages.
    pub(super) title: String,
    names: Vec<Pattern>,
    pub(super) signers: Vec<Signer>,
    /// So many of them have signed.
    pub(super) threshold: usize,
    pub(super) same_name: bool,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) provenance: Option<Provenance>,
    pub(super) attestations: Vec<Attestation>,
}

/// What an image's provenance has to say.
#[derive(Debug)]
pub(super) struct Provenance {
    pub(super) signers: Vec<Signer>,
    pub(super) builders: Option<Vec<Pattern>>,
    pub(super) materials: Option<Vec<Pattern>>,
    pub(super) lock: Option<Locked>,
    pub(super) complete: bool,
}

/// What a lock lists.
#[derive(Debug)]
pub(super) struct Locked {
    pub(super) path: PathBuf,
    pub(super) digests: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Attestation {
    pub(super) kind: String,
    pub(super) signers: Vec<Signer>,
}

/// The rules of a file.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    /// Reads a policy, and the keys and locks that it names.
    ///
    /// # Errors
    /// If one of them cannot be read, or is malformed.
    pub fn load(path: &Path) -> Result<Self, SignError> {
        let wrong = |why: String| SignError::Malformed { path: path.into(), why };
        let text = String::from_utf8(read(path, MOST)?)
            .map_err(|_| wrong("it is no text in UTF-8".into()))?;
        let wire: Wire = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if wire.version != 1 {
            return Err(wrong(format!("its version is {}, only 1 is known", wire.version)));
        }
        let beside = path.parent().unwrap_or(Path::new(""));
        let mut keys: BTreeMap<String, PublicKey> = BTreeMap::new();
        for (name, text) in wire.keys {
            let key = if text.contains("-----BEGIN") {
                PublicKey::read(text.as_bytes())
                    .map_err(|why| wrong(format!("key `{name}`: {why}")))?
            } else {
                public_key(&beside.join(text))?
            };
            // Two names would be counted as two who signed.
            if let Some((other, _)) = keys.iter().find(|(_, other)| **other == key) {
                return Err(wrong(format!("keys `{other}` and `{name}` are the same")));
            }
            keys.insert(name, key);
        }
        let parts = Parts { keys: &keys, beside };
        let rules = wire.image.into_iter().enumerate();
        let rules = rules.map(|(at, rule)| {
            let title = format!("rule {} ({})", at + 1, rule.names.join(", "));
            parts.rule(title.clone(), rule).map_err(|error| match error {
                Fault::Why(why) => wrong(format!("{title}: {why}")),
                Fault::File(error) => error,
            })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The rule for a name; without one, that for any.
    #[must_use]
    pub fn rule(&self, name: Option<&Reference>) -> Option<&Rule> {
        let name = name.map(Reference::name).unwrap_or_default();
        self.rules.iter().find(|rule| rule.names.iter().any(|pattern| pattern.fits(&name)))
    }
}

impl Rule {
    /// That all of some keys have signed, signatures have annotations, and there are
    /// attestations of some types that one of them has signed.
    #[must_use]
    pub fn of_keys(
        signers: Vec<Signer>,
        annotations: BTreeMap<String, String>,
        types: Vec<String>,
    ) -> Self {
        let attestation = |kind| Attestation { kind, signers: signers.clone() };
        Self {
            title: "--key".into(),
            names: Vec::new(),
            threshold: signers.len(),
            same_name: false,
            annotations,
            provenance: None,
            attestations: types.into_iter().map(attestation).collect(),
            signers,
        }
    }
}

enum Fault {
    Why(String),
    File(SignError),
}

impl From<SignError> for Fault {
    fn from(error: SignError) -> Self {
        Self::File(error)
    }
}

/// What rules refer to.
struct Parts<'a> {
    keys: &'a BTreeMap<String, PublicKey>,
    beside: &'a Path,
}

impl Parts<'_> {
    fn rule(&self, title: String, wire: WireRule) -> Result<Rule, Fault> {
        if wire.names.is_empty() {
            return Err(Fault::Why("it has no names".into()));
        }
        let signers = self.signers(&wire.signed_by)?;
        let threshold = wire.threshold.unwrap_or(signers.len());
        if threshold == 0 || threshold > signers.len() {
            let keys = signers.len();
            return Err(Fault::Why(format!("threshold is {threshold}, of {keys} keys")));
        }
        let attestation = |wire: WireAttestation| {
            let kind = predicate_type(&wire.kind).ok_or_else(|| {
                let known = type_names();
                Fault::Why(format!("type `{}` is neither a URI nor one of {known}", wire.kind))
            })?;
            Ok::<_, Fault>(Attestation { kind, signers: self.signers(&wire.signed_by)? })
        };
        Ok(Rule {
            title,
            names: wire
                .names
                .iter()
                .map(|text| Pattern::of_names(text))
                .collect::<Result<_, _>>()?,
            signers,
            threshold,
            same_name: wire.same_name,
            annotations: wire.annotations,
            provenance: wire.provenance.map(|wire| self.provenance(wire)).transpose()?,
            attestations: wire
                .attestation
                .into_iter()
                .map(attestation)
                .collect::<Result<_, _>>()?,
        })
    }

    fn provenance(&self, wire: WireProvenance) -> Result<Provenance, Fault> {
        let patterns = |list: Option<Vec<String>>| {
            list.map(|all| all.iter().map(|one| Pattern::new(one)).collect())
        };
        let lock = wire.lock.map(|path| Locked::load(self.beside.join(path))).transpose()?;
        Ok(Provenance {
            signers: self.signers(&wire.signed_by)?,
            builders: patterns(wire.builders),
            materials: patterns(wire.materials),
            lock,
            complete: wire.complete,
        })
    }

    fn signers(&self, names: &[String]) -> Result<Vec<Signer>, Fault> {
        if names.is_empty() {
            return Err(Fault::Why("signed-by names no key".into()));
        }
        let mut signers: Vec<Signer> = Vec::new();
        for name in names {
            if signers.iter().any(|other| other.name == *name) {
                return Err(Fault::Why(format!("signed-by names `{name}` twice")));
            }
            let key = self.keys.get(name);
            let key = key.ok_or_else(|| Fault::Why(format!("[keys] has no `{name}`")))?;
            signers.push(Signer { name: name.clone(), key: key.clone() });
        }
        Ok(signers)
    }
}

impl Locked {
    /// The digests and commits of a lock. A material is known by them alone: where it came
    /// from does not change what went in.
    fn load(path: PathBuf) -> Result<Self, SignError> {
        let wrong = |why: String| SignError::Malformed { path: path.clone(), why };
        let text = String::from_utf8(read(&path, MOST)?)
            .map_err(|_| wrong("it is no text in UTF-8".into()))?;
        let lock = Lock::parse(&text).map_err(|error| wrong(error.message))?;
        let mut digests = BTreeSet::new();
        for entry in lock.entries() {
            match entry {
                Entry::Base(base) => {
                    digests.insert(base.digest.hex());
                    digests.extend(base.index.map(|index| index.hex()));
                }
                Entry::Url(url) => {
                    digests.insert(url.digest.hex());
                }
                Entry::Git(git) => {
                    digests.insert(git.commit.clone());
                }
            }
        }
        Ok(Self { path, digests })
    }
}

/// Reads a file to verify with.
///
/// # Errors
/// If it cannot be read, or holds no public key.
pub fn public_key(path: &Path) -> Result<PublicKey, SignError> {
    let text = read(path, key::MOST)?;
    PublicKey::read(&text).map_err(|source| SignError::Key { path: path.into(), source })
}

/// Reads a file to sign with.
///
/// # Errors
/// If it cannot be read, holds no private key, or the password does not open it.
pub fn private_key(path: &Path, password: Option<&[u8]>) -> Result<PrivateKey, SignError> {
    let text = Zeroizing::new(read(path, key::MOST)?);
    PrivateKey::read(&text, password).map_err(|source| SignError::Key { path: path.into(), source })
}

/// Reads what is to be said of an image.
///
/// # Errors
/// If it cannot be read, or is no JSON object.
pub fn predicate(path: &Path) -> Result<Value, SignError> {
    let wrong = |why: String| SignError::Malformed { path: path.into(), why };
    let value: Value =
        strict_json("predicate", &read(path, MOST)?).map_err(|error| wrong(error.to_string()))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(wrong("a JSON object is expected".into())),
    }
}

/// A file whole, if it is not too large.
pub(super) fn read(path: &Path, most: u64) -> Result<Vec<u8>, SignError> {
    use std::io::Read as _;
    let file = std::fs::File::open(path).at("open", path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).at("read", path)?;
    if bytes.len() as u64 > most {
        return Err(SignError::TooLarge { path: path.into(), most });
    }
    Ok(bytes)
}

/// A text in which `*` stands for anything without a slash and `**` for anything; or a digest.
#[derive(Debug, Clone)]
pub(super) struct Pattern(String);

impl Pattern {
    fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Of repositories, with their registries. One that no name can fit would leave images to
    /// a later rule, which may ask for less.
    fn of_names(text: &str) -> Result<Self, Fault> {
        let wrong = |why: &str| Err(Fault::Why(format!("names: `{text}` {why}")));
        let (first, rest) = match text.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        if text.contains('@') || rest.is_some_and(|rest| rest.contains(':')) {
            return wrong("has a tag or a digest, and names of repositories are meant");
        }
        let registry = first.contains(['.', ':', '*']) || first == "localhost";
        if !registry || rest.is_none() && !first.contains("**") {
            return wrong("has no registry; that of Docker Hub is docker.io");
        }
        Ok(Self::new(text))
    }

    /// Whether it is this very digest.
    pub(super) fn is_digest(&self, hex: &str) -> bool {
        self.0.parse::<BlobDigest>().is_ok_and(|own| own.hex() == hex)
    }

    /// Goes back to the last star only: the time is the product of the lengths at most.
    pub(super) fn fits(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut at, mut of) = (0, 0);
        // Where to go on after a star of each kind takes one byte more.
        let mut single: Option<(usize, usize)> = None;
        let mut double: Option<(usize, usize)> = None;
        while of < text.len() {
            if pattern[at..].starts_with(b"**") {
                at += 2;
                (single, double) = (None, Some((at, of)));
            } else if pattern.get(at) == Some(&b'*') {
                at += 1;
                single = Some((at, of));
            } else if pattern.get(at) == text.get(of) {
                at += 1;
                of += 1;
            } else if let Some((back, taken)) = single.filter(|(_, taken)| text[*taken] != b'/') {
                (at, of) = (back, taken + 1);
                single = Some((back, taken + 1)).filter(|(_, taken)| *taken < text.len());
            } else if let Some((back, taken)) = double {
                (at, of) = (back, taken + 1);
                (single, double) = (None, Some((back, taken + 1)));
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars() {
        for (pattern, text, fits) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("**", "", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("*/c", "a/b/c", false),
            ("**/c", "a/b/c", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("**a*b", "a/axb", true),
            ("**a*b", "a/a/xb", false),
            ("**a*b", "aa/b", false),
            ("a*b**", "axxb/c/d", true),
            ("x*", "xa/", false),
            ("registry.example/app/**", "registry.example/app-evil/x", false),
        ] {
            assert_eq!(Pattern::new(pattern).fits(text), fits, "{pattern} {text}");
        }
        let long = "a".repeat(20_000);
        assert!(!Pattern::new(&"*a".repeat(50)).fits(&format!("{long}b")));
    }

    #[test]
    fn a_slip_is_no_rule_less() {
        let folder = tempfile::tempdir().unwrap();
        let (one, _) = key::PrivateKey::generate().unwrap();
        let (two, _) = key::PrivateKey::generate().unwrap();
        for (name, key) in [("one.pub", &one), ("again.pub", &one), ("two.pub", &two)] {
            std::fs::write(folder.path().join(name), key.public().to_pem()).unwrap();
        }
        let path = folder.path().join("policy.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Policy::load(&path)
        };
        let good = "version = 1\nkeys = { one = 'one.pub', two = 'two.pub' }\n\
                    [[image]]\nnames = ['r.example/a/*']\nsigned-by = ['one', 'two']\n\
                    [[image]]\nnames = ['**']\nsigned-by = ['two']\n";
        let policy = load(good).unwrap();
        let rule = |name: &str| policy.rule(Some(&name.parse().unwrap())).unwrap();
        assert_eq!((rule("r.example/a/b:1").threshold, rule("r.example/a").threshold), (2, 1));
        assert_eq!(policy.rule(None).unwrap().signers[0].name, "two");
        for (from, to, says) in [
            ("version = 1", "version = 2", "only 1 is known"),
            ("version = 1", "version = 1\nmode = 'warn'", "mode"),
            ("signed-by = ['two']", "signed_by = ['two']", "signed_by"),
            ("signed-by = ['two']", "signed-by = []", "names no key"),
            ("signed-by = ['two']", "signed-by = ['two']\nthreshold = 0", "threshold is 0"),
            ("signed-by = ['two']", "signed-by = ['two']\nthreshold = 2", "threshold is 2, of 1"),
            ("signed-by = ['two']", "signed-by = ['three']", "[keys] has no `three`"),
            ("['one', 'two']", "['one', 'one']", "twice"),
            ("'two.pub'", "'again.pub'", "are the same"),
            ("'two.pub'", "'absent.pub'", "absent.pub"),
            ("names = ['**']", "names = []", "no names"),
            ("names = ['**']", "names = ['app']", "no registry"),
            ("names = ['**']", "names = ['library/*']", "no registry"),
            ("names = ['**']", "names = ['r.example/app:1']", "has a tag"),
            ("names = ['**']", "names = ['r.example/app@sha256:*']", "a digest"),
            (
                "signed-by = ['two']",
                "signed-by = ['two']\n[[image.attestation]]\ntype = 'sbom'\nsigned-by = ['two']",
                "neither a URI",
            ),
            (
                "signed-by = ['two']",
                "signed-by = ['two']\n[image.provenance]\nsigned-by = ['two']\nbuilder = 'x'",
                "builder",
            ),
        ] {
            let error = load(&good.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(says), "{to}: {error}");
        }
    }
}
