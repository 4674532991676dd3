//! Flags about keys: what is signed with, and who is believed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::login::whole;
use super::report::CliError;
use super::value::Assignment;
use crate::copy::Place;
use crate::env;
use crate::reference::Reference;
use crate::sign::{self, Policy, PrivateKey, Rule, Signer};

/// The flags of commands that sign.
#[derive(Debug, Clone, clap::Args)]
pub struct KeyArgs {
    /// File of the private key: PEM (PKCS#8, SEC1, PKCS#1), or as cosign encrypts it, with the
    /// password in $COSIGN_PASSWORD
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,

    /// Read the key's password from stdin
    #[arg(long)]
    pub password_stdin: bool,
}

impl KeyArgs {
    /// The key.
    ///
    /// # Errors
    /// If the file holds none, or the password does not open it.
    pub fn private(&self) -> Result<PrivateKey, CliError> {
        private(&self.key, self.password_stdin)
    }
}

/// The key of a file.
pub(super) fn private(path: &Path, stdin: bool) -> Result<PrivateKey, CliError> {
    let password = password(stdin)?;
    let password = password.as_ref().map(|text| text.as_bytes());
    Ok(sign::private_key(path, password)?)
}

/// The password for a key, if one was given.
pub(super) fn password(stdin: bool) -> Result<Option<Zeroizing<String>>, CliError> {
    match stdin {
        true => Ok(Some(Zeroizing::new(whole(&mut io::stdin().lock())?))),
        false => Ok(env::text(env::COSIGN_PASSWORD).map(Zeroizing::new)),
    }
}

/// Who is believed.
pub(super) enum Rules {
    Keys(Box<Rule>),
    Policy(PathBuf, Policy),
}

impl Rules {
    /// By keys that all have to have signed, or by a policy.
    pub(super) fn load(
        keys: &[PathBuf],
        policy: Option<&Path>,
        annotations: &[Assignment],
        types: &[String],
    ) -> Result<Self, CliError> {
        if let Some(path) = policy {
            return Ok(Self::Policy(path.into(), Policy::load(path)?));
        }
        let mut signers: Vec<Signer> = Vec::new();
        for path in keys {
            let key = sign::public_key(path)?;
            if signers.iter().all(|other| other.key != key) {
                signers.push(Signer { name: path.display().to_string(), key });
            }
        }
        let kind = |name: &String| sign::predicate_type(name).ok_or_else(|| no_type(name));
        let types = types.iter().map(kind).collect::<Result<_, _>>()?;
        Ok(Self::Keys(Box::new(Rule::of_keys(signers, map(annotations), types))))
    }

    /// What an image has to have that is called so where it is used.
    pub(super) fn of(&self, name: Option<&Reference>) -> Result<&Rule, CliError> {
        match self {
            Self::Keys(rule) => Ok(rule.as_ref()),
            Self::Policy(path, policy) => policy.rule(name).ok_or_else(|| {
                let name = name.map_or_else(
                    || "an image without a name".into(),
                    |name| format!("`{}`", name.name()),
                );
                let path = path.display();
                CliError::plain(format!("{path} has no rule for {name}, so it is refused"))
                    .hint("[[image]] with names = [\"**\"] at its end is for all others")
            }),
        }
    }
}

/// The name that an image is called by at its place.
pub(super) fn name_at(place: &Place) -> Option<Reference> {
    match place {
        Place::Registry { name, .. } | Place::Store(name) => Some(name.clone()),
        Place::Layout { tag, .. } | Place::OciArchive { tag, .. } => {
            // A tag alone is no name.
            tag.as_ref().filter(|tag| tag.contains(['/', ':'])).and_then(|tag| tag.parse().ok())
        }
        Place::DockerArchive { name, .. } => name.clone(),
    }
}

/// Values by their names.
pub(super) fn map(all: &[Assignment]) -> BTreeMap<String, String> {
    all.iter().map(|one| (one.name.clone(), one.value.clone())).collect()
}

/// That a word is no type of predicates.
pub(super) fn no_type(name: &str) -> CliError {
    let names = sign::type_names();
    CliError::usage(format!("`{name}` is no type of predicates"))
        .hint(format!("a URI is expected, or one of {names}"))
}
