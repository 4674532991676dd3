//! What `git ls-remote` says.

use crate::dockerfile::GitSource;

use super::Resolved;

/// The arguments that ask for a ref, or for the default branch.
pub(super) fn patterns(reference: Option<&str>) -> Vec<String> {
    match reference {
        None => vec!["HEAD".to_owned()],
        Some(name) => vec![name.to_owned(), format!("{name}^{{}}")],
    }
}

/// Finds in an answer what a ref means: of a branch and a tag of one name it is the
/// branch, as in `git checkout`.
pub(super) fn find(answer: &str, reference: Option<&str>) -> Option<Resolved> {
    let lines = || answer.lines().filter_map(|line| line.split_once('\t'));
    let hash = |wanted: &str| {
        let mut found = lines().filter(|(hash, _)| GitSource::is_commit(hash));
        found.find(|(_, name)| *name == wanted).map(|(hash, _)| hash.to_owned())
    };
    let Some(reference) = reference else {
        let branch = lines().find_map(|(first, name)| {
            first.strip_prefix("ref: ").filter(|_| name == "HEAD").map(str::to_owned)
        });
        let object = hash("HEAD")?;
        // A detached one has no name.
        let reference = branch.unwrap_or_else(|| object.clone());
        return Some(Resolved { reference, object, commit: None });
    };
    let below =
        |folder: &str| format!("{folder}{}", reference.strip_prefix(folder).unwrap_or(reference));
    let (whole, branch, tag) = (below("refs/"), below("refs/heads/"), below("refs/tags/"));
    for name in [&whole, &branch] {
        if let Some(object) = hash(name) {
            let commit = hash(&format!("{name}^{{}}"));
            return Some(Resolved { reference: name.clone(), object, commit });
        }
    }
    let object = hash(&tag)?;
    let commit = hash(&format!("{tag}^{{}}"));
    Some(Resolved { reference: tag, object, commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let of = |digit: &str| digit.repeat(40);
        let text = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/both\n\
             {c}\trefs/tags/both\n{c}\trefs/tags/v1\n{d}\trefs/tags/v1^{{}}\n{a}\trefs/pull/1/head\n\
             short\trefs/heads/odd\n{b}\trefs/heads/x/v2\n",
            a = of("a"),
            b = of("b"),
            c = of("c"),
            d = of("d"),
        );
        let found = |reference: Option<&str>| {
            let found = find(&text, reference)?;
            Some((
                found.reference,
                found.object[..1].to_owned(),
                found.commit.map(|c| c[..1].to_owned()),
            ))
        };
        let want = |name: &str, object: &str, commit: Option<&str>| {
            Some((name.to_owned(), object.to_owned(), commit.map(str::to_owned)))
        };
        assert_eq!(found(None), want("refs/heads/main", "a", None));
        assert_eq!(found(Some("main")), want("refs/heads/main", "a", None));
        assert_eq!(found(Some("both")), want("refs/heads/both", "b", None));
        assert_eq!(found(Some("refs/tags/both")), want("refs/tags/both", "c", None));
        assert_eq!(found(Some("heads/both")), want("refs/heads/both", "b", None));
        assert_eq!(found(Some("v1")), want("refs/tags/v1", "c", Some("d")));
        assert_eq!(found(Some("refs/tags/v1")), want("refs/tags/v1", "c", Some("d")));
        assert_eq!(found(Some("pull/1/head")), want("refs/pull/1/head", "a", None));
        assert_eq!(found(Some("odd")), None);
        assert_eq!(found(Some("v2")), None);
        assert_eq!(find(&format!("{}\tHEAD\n", of("a")), None).unwrap().reference, of("a"));
        assert_eq!(find("", None), None);
    }
}
