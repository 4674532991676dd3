//! What to try after errors of the library that have a common cause.
//!
//! The chain of an error is searched for types that are known here; the first
//! that has something to say says it. A `#[error(transparent)]` variant hides the
//! error in it from that search, so its type is looked into here.

use std::error::Error;
use std::io::ErrorKind;

use crate::atomic::PathError;
use crate::bundle::BundleError;
use crate::compare::CompareError;
use crate::copy::CopyError;
use crate::deploy::DeployError;
use crate::output::OutputError;
use crate::reference::Reference;
use crate::registry::RegistryError;
use crate::sbom::SbomError;
use crate::sign::SignError;
use crate::store::{Store, StoreError};

/// The hint for an error; the store serves to suggest names.
pub(super) fn of(error: &(dyn Error + 'static), store: Option<&Store>) -> Option<String> {
    let mut at = Some(error);
    while let Some(one) = at {
        let found = one
            .downcast_ref::<StoreError>()
            .and_then(|error| for_store(error, store))
            .or_else(|| one.downcast_ref::<OutputError>().and_then(|e| for_output(e, store)))
            .or_else(|| one.downcast_ref::<RegistryError>().and_then(RegistryError::hint))
            .or_else(|| one.downcast_ref::<CopyError>().and_then(|e| for_copy(e, store)))
            .or_else(|| one.downcast_ref::<BundleError>().and_then(|e| for_bundle(e, store)))
            .or_else(|| one.downcast_ref::<DeployError>().and_then(DeployError::hint))
            .or_else(|| one.downcast_ref::<SbomError>().and_then(SbomError::hint))
            .or_else(|| one.downcast_ref::<CompareError>().and_then(|e| for_comparison(e, store)))
            .or_else(|| one.downcast_ref::<SignError>().and_then(|e| for_signing(e, store)))
            .or_else(|| one.downcast_ref::<PathError>().and_then(for_path));
        if found.is_some() {
            return found;
        }
        at = one.source();
    }
    None
}

/// What is transparent in it hides from the search.
fn for_copy(error: &CopyError, store: Option<&Store>) -> Option<String> {
    match error {
        CopyError::Store(error) => for_store(error, store),
        CopyError::Path(error) => for_path(error),
        CopyError::Output(error) => for_output(error, store),
        other => other.hint(),
    }
}

fn for_bundle(error: &BundleError, store: Option<&Store>) -> Option<String> {
    match error {
        BundleError::Copy(inner) => error.hint().or_else(|| for_copy(inner, store)),
        BundleError::Store(error) => for_store(error, store),
        BundleError::Write(error) | BundleError::Read { source: error, .. } => {
            for_output(error, store)
        }
        other => other.hint(),
    }
}

fn for_signing(error: &SignError, store: Option<&Store>) -> Option<String> {
    match error {
        SignError::Store(error) => for_store(error, store),
        SignError::Path(error) => for_path(error),
        SignError::Copy(error) => for_copy(error, store),
        other => other.hint(),
    }
}

fn for_store(error: &StoreError, store: Option<&Store>) -> Option<String> {
    match error {
        StoreError::Io(error) => match error.source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some(
                "the store must be a folder you may write; choose one with --store or KILN_STORE"
                    .into(),
            ),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Some("make room, or put the store elsewhere with --store or KILN_STORE".into())
            }
            _ => None,
        },
        StoreError::NotAStore { .. } => {
            Some("choose an empty folder or a store with --store or KILN_STORE".into())
        }
        StoreError::NoImage(name) => Some(match store.and_then(|store| similar(name, store)) {
            Some(other) => format!("did you mean `{other}`? `kiln images` lists what is there"),
            None => "`kiln images` lists what is there".into(),
        }),
        StoreError::ManyNames { .. } => Some("`kiln rmi NAME…` takes names away".into()),
        StoreError::NoBlob(_) => {
            Some("the image is in the store only in part; pull it again".into())
        }
        StoreError::Damaged { .. }
        | StoreError::Mismatch { .. }
        | StoreError::Image { .. }
        | StoreError::ManyAttached { .. }
        | StoreError::Index(_) => None,
    }
}

fn for_output(error: &OutputError, store: Option<&Store>) -> Option<String> {
    match error {
        OutputError::Store(inner) => for_store(inner, store),
        OutputError::Path(inner) => for_path(inner),
        other => other.hint(),
    }
}

fn for_comparison(error: &CompareError, store: Option<&Store>) -> Option<String> {
    match error {
        CompareError::Store(inner) => for_store(inner, store),
        CompareError::Path(inner) => for_path(inner),
        other => other.hint(),
    }
}

fn for_path(error: &PathError) -> Option<String> {
    match error.source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some(format!("make room on the file system of {}", error.path.display()))
        }
        _ => None,
    }
}

/// The stored name that the given one most likely stands for.
fn similar(name: &Reference, store: &Store) -> Option<String> {
    let wanted = name.familiar();
    let names = store.names().ok()?;
    names
        .iter()
        .map(|(other, _)| {
            // The same image under another tag, or in another registry, is near.
            let near = other.name() == name.name()
                || (other.repository().rsplit('/').next() == name.repository().rsplit('/').next()
                    && other.tag() == name.tag());
            let familiar = other.familiar();
            let far = if near { 0 } else { distance(&wanted, &familiar) };
            (far, familiar)
        })
        .filter(|(far, _)| *far <= 1 + wanted.chars().count() / 6)
        .min()
        .map(|(_, familiar)| familiar)
}

/// Levenshtein's distance: characters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::CliError;

    #[test]
    fn found_wherever_it_is() {
        let no_space = || PathError {
            what: "write",
            path: "/data/x".into(),
            source: std::io::Error::from(ErrorKind::StorageFull),
        };
        for (error, says) in [
            (Box::new(OutputError::from(no_space())) as Box<dyn Error>, "file system of /data/x"),
            (Box::new(OutputError::from(StoreError::from(no_space()))), "--store"),
            (Box::new(StoreError::NoImage("a".parse().unwrap())), "kiln images"),
        ] {
            assert!(of(error.as_ref(), None).is_some_and(|hint| hint.contains(says)), "{says}");
        }
        // By `?` any of them becomes an error of the command line.
        let _: CliError = no_space().into();
        assert_eq!(of(&std::io::Error::other("x"), None), None);
    }

    #[test]
    fn distances() {
        for (a, b, far) in [("", "", 0), ("", "ab", 2), ("apline", "alpine", 2), ("a:1", "a:2", 1)]
        {
            assert_eq!(distance(a, b), far);
            assert_eq!(distance(b, a), far);
        }
    }
}
