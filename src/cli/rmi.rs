//! `kiln rmi`.

use super::invocation::Invocation;
use super::report::CliError;
use crate::image::{Descriptor, Purpose};
use crate::reference::Reference;
use crate::store::{Store, StoreError};

/// Take names of images away; what no name needs any more can then be cleaned up
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names of images, or the first digits of a digest that has one name only
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,

    /// Take all names of a digest; a name that is not there is no error
    #[arg(short, long)]
    pub force: bool,
}

/// Removes the names and prints them; if one cannot be found none is removed.
///
/// # Errors
/// If a name is not there, or a digest has several.
pub fn run(args: Args, invocation: &Invocation) -> Result<(), CliError> {
    let mut doomed: Vec<Reference> = Vec::new();
    for text in &args.images {
        match names(text, args.force, invocation) {
            Ok(names) => doomed.extend(names),
            Err(_) if args.force && is_absent(text, invocation)? => (),
            Err(error) => return Err(error),
        }
    }
    doomed.sort();
    doomed.dedup();
    let store = invocation.store()?;
    for name in &doomed {
        let at = store.find(name)?;
        store.untag(name)?;
        if let Some(at) = at.filter(|at| !store.is_named(&at.digest).unwrap_or(true)) {
            detach(&at, store)?;
        }
        invocation.print(name.familiar())?;
    }
    Ok(())
}

/// What had a name of its own is not kept by what it is attached to.
fn detach(at: &Descriptor, store: &Store) -> Result<(), CliError> {
    let subject = match store.peek(&at.digest) {
        Ok(bytes) => Purpose::read(&bytes).ok().and_then(|purpose| purpose.subject),
        Err(StoreError::NoBlob(_) | StoreError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(subject) = subject {
        store.detach(&subject.digest, &at.digest)?;
    }
    Ok(())
}

fn is_absent(text: &str, invocation: &Invocation) -> Result<bool, CliError> {
    let store = invocation.store()?;
    let by_name = match text.parse::<Reference>() {
        Ok(name) => store.find(&name)?,
        Err(_) => None,
    };
    Ok(by_name.is_none() && store.find_id(text)?.is_none())
}

/// The names that a text stands for.
fn names(text: &str, force: bool, invocation: &Invocation) -> Result<Vec<Reference>, CliError> {
    let (name, at) = invocation.find(text)?;
    let all = invocation.store()?.names()?;
    if let Some(name) = name
        && all.iter().any(|(other, _)| *other == name)
    {
        return Ok(vec![name]);
    }
    let of_digest: Vec<Reference> =
        all.into_iter().filter(|(_, other)| other.digest == at.digest).map(|(n, _)| n).collect();
    match of_digest.len() {
        0 => Err(CliError::plain(format!("image {} has no name that could be taken", at.digest))),
        1 => Ok(of_digest),
        _ if force => Ok(of_digest),
        _ => {
            let list: Vec<String> = of_digest.iter().map(Reference::familiar).collect();
            Err(CliError::plain(format!(
                "image {} has several names: {}",
                at.digest.short(),
                list.join(", ")
            ))
            .hint("give the name, or --force for all"))
        }
    }
}
