//! Whether an image is what a rule asks for.
//!
//! What a name means is asked for once; all that follows is about that digest. Signatures have
//! to be about it itself. Provenance and other attestations may instead be about each of the
//! images that an index lists, as builders attach them.

use serde::Serialize;
use serde_json::Value;

use super::error::SignError;
use super::evidence::Evidence;
use super::policy::{Attestation, Provenance, Rule, Signer};
use super::statement::{SIGNATURE, Statement};
use crate::attest::PROVENANCE;
use crate::copy::Reader;
use crate::digest::BlobDigest;
use crate::image::{Descriptor, Index, Raw};
use crate::net::escaped;
use crate::reference::Reference;

/// Most images of an index that are looked at one by one.
const MOST: usize = 200;

/// What was found out about an image.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    pub image: String,
    pub digest: BlobDigest,
    pub rule: String,
    pub verified: bool,
    pub checks: Vec<Check>,
    /// What was met on the way and left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// One demand of the rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    pub check: String,
    pub ok: bool,
    /// Who vouches, or what is wrong.
    pub detail: String,
}

impl Check {
    fn of(check: impl Into<String>, outcome: Result<String, String>) -> Self {
        let ok = outcome.is_ok();
        let (Ok(detail) | Err(detail)) = outcome;
        Self { check: check.into(), ok, detail }
    }
}

/// Looks whether an image is as a rule says. `name` is what it is called where it will be
/// used.
///
/// # Errors
/// If the place cannot be read. What does not fit is in the verdict.
pub async fn judge(
    reader: &Reader<'_>,
    root: &Raw,
    name: Option<&Reference>,
    rule: &Rule,
) -> Result<Verdict, SignError> {
    let evidence = Evidence::gather(reader, root.digest).await?;
    let mut notes = evidence.odd.clone();
    let mut checks = vec![signatures(&evidence, name, rule, &mut notes)];
    // Read when the first demand is not met by what is about the index itself.
    let mut parts: Option<Vec<(String, Evidence)>> = None;
    let mut demands: Vec<Demand<'_>> = Vec::new();
    demands.extend(rule.provenance.as_ref().map(Demand::Provenance));
    demands.extend(rule.attestations.iter().map(Demand::Attestation));
    for demand in &demands {
        let mut outcome = demand.met(&evidence);
        if outcome.is_err() && root.media_type.is_index() {
            let parts = match &mut parts {
                Some(parts) => parts,
                None => parts.insert(each(reader, root, &mut notes).await?),
            };
            let met = |(what, evidence): &(String, Evidence)| {
                demand.met(evidence).map_err(|why| format!("{what}: {why}"))
            };
            if !parts.is_empty() {
                let all: Result<Vec<String>, String> = parts.iter().map(met).collect();
                outcome = all.map(|mut each| {
                    each.dedup();
                    each.join("; ")
                });
            }
        }
        checks.push(Check::of(demand.title(), outcome));
    }
    notes.truncate(20);
    Ok(Verdict {
        image: reader.place(),
        digest: root.digest,
        rule: rule.title.clone(),
        verified: checks.iter().all(|check| check.ok),
        checks,
        notes,
    })
}

/// The images that an index lists, with what is said of each.
async fn each(
    reader: &Reader<'_>,
    root: &Raw,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Evidence)>, SignError> {
    let listed = listed(root)?;
    if listed.len() > MOST {
        let (place, digest) = (reader.place(), root.digest);
        return Err(SignError::TooMany { place, digest, most: MOST });
    }
    let mut all = Vec::new();
    for entry in listed {
        let evidence = Evidence::gather(reader, entry.digest).await?;
        notes.extend(evidence.odd.iter().cloned());
        let what = match &entry.platform {
            // In the words of whoever made the index.
            Some(platform) => escaped(&platform.to_string(), 100),
            None => format!("sha256:{}", entry.digest.short()),
        };
        all.push((what, evidence));
    }
    Ok(all)
}

/// What an index lists, other than attestations as BuildKit keeps them.
pub(super) fn listed(root: &Raw) -> Result<Vec<Descriptor>, SignError> {
    let index = Index::read(&root.bytes)
        .map_err(|source| SignError::Document { digest: root.digest, source })?;
    let is_image = |entry: &Descriptor| entry.platform.as_ref().is_none_or(|on| on.os != "unknown");
    Ok(index.manifests.into_iter().filter(is_image).collect())
}

fn signatures(
    evidence: &Evidence,
    name: Option<&Reference>,
    rule: &Rule,
    notes: &mut Vec<String>,
) -> Check {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for signer in &rule.signers {
        let (said, odd) = evidence.by(&signer.key);
        notes.extend(odd.into_iter().map(|why| format!("signed by {}: {why}", signer.name)));
        let mut signed: Vec<&Statement> =
            said.iter().filter(|one| one.predicate_type == SIGNATURE).collect();
        if signed.is_empty() {
            bad.push(format!("{} has not signed it", signer.name));
            continue;
        }
        let noted = |one: &&Statement| {
            let has = |(key, value): (&String, &String)| {
                one.annotations.get(key).and_then(Value::as_str) == Some(value)
            };
            rule.annotations.iter().all(has)
        };
        signed.retain(noted);
        if signed.is_empty() {
            bad.push(format!("{} has signed it with other annotations", signer.name));
            continue;
        }
        let named = |one: &&Statement| name.is_some_and(|name| one.is_of(name));
        if rule.same_name && !signed.iter().any(named) {
            bad.push(format!("{} has signed it under another name", signer.name));
            continue;
        }
        good.push(signer.name.clone());
    }
    let check = match rule.signers.len() {
        1 => "signature".to_owned(),
        all => format!("signatures of {} of {all} keys", rule.threshold),
    };
    let outcome = if good.len() >= rule.threshold {
        Ok(format!("signed by {}", good.join(", ")))
    } else {
        let there = match evidence.count() {
            0 => " (it has no signature)".to_owned(),
            _ => String::new(),
        };
        Err(format!("{}{there}", bad.join(", ")))
    };
    Check::of(check, outcome)
}

/// What else a rule asks for.
enum Demand<'a> {
    Provenance(&'a Provenance),
    Attestation(&'a Attestation),
}

impl Demand<'_> {
    fn title(&self) -> String {
        match self {
            Self::Provenance(_) => "provenance".to_owned(),
            Self::Attestation(one) => format!("attestation {}", one.kind),
        }
    }

    /// Who vouches for what is asked for, or why nobody does. One statement is enough: others
    /// of the same signers may be of other builds of the same bits.
    fn met(&self, evidence: &Evidence) -> Result<String, String> {
        let (signers, kind) = match self {
            Self::Provenance(one) => (&one.signers, PROVENANCE),
            Self::Attestation(one) => (&one.signers, one.kind.as_str()),
        };
        let mut why = Vec::new();
        for Signer { name, key } in signers {
            for statement in evidence.by(key).0.iter().filter(|one| one.predicate_type == kind) {
                let found = match self {
                    Self::Provenance(rule) => provenance(rule, &statement.predicate),
                    Self::Attestation(_) => Ok(String::new()),
                };
                match found {
                    Ok(more) => return Ok(format!("signed by {name}{more}")),
                    Err(wrong) => why.push(wrong),
                }
            }
        }
        if let Some(first) = why.into_iter().next() {
            return Err(first);
        }
        let names: Vec<&str> = signers.iter().map(|signer| signer.name.as_str()).collect();
        let unsigned = match evidence.unsigned.len() {
            0 => "",
            _ => "; it has statements that nobody signed",
        };
        Err(format!("none is signed by {}{unsigned}", names.join(" or ")))
    }
}

/// Whether a predicate says what a policy wants to hear (SLSA v1.0, provenance.md).
fn provenance(rule: &Provenance, predicate: &Value) -> Result<String, String> {
    let builder = predicate["runDetails"]["builder"]["id"].as_str().unwrap_or_default();
    let shown = escaped(builder, 200);
    if let Some(builders) = &rule.builders
        && !builders.iter().any(|pattern| pattern.fits(builder))
    {
        return Err(format!("the builder is `{shown}`"));
    }
    let completeness = &predicate["runDetails"]["metadata"]["kiln_completeness"];
    if rule.complete && completeness["resolvedDependencies"] != true {
        return Err("it does not say that it lists all that went in".into());
    }
    if rule.materials.is_none() && rule.lock.is_none() {
        return Ok(format!(", built by {shown}"));
    }
    let listed = &predicate["buildDefinition"]["resolvedDependencies"];
    let listed = listed.as_array().ok_or("it does not say what went in")?;
    for one in listed {
        let uri = one["uri"].as_str().unwrap_or_default();
        let shown = escaped(uri, 200);
        let digests: Vec<&str> = one["digest"]
            .as_object()
            .map(|all| all.values().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        if digests.is_empty() {
            return Err(format!("material `{shown}` has no digest"));
        }
        if let Some(patterns) = &rule.materials
            && !patterns
                .iter()
                .any(|one| one.fits(uri) || digests.iter().any(|hex| one.is_digest(hex)))
        {
            return Err(format!("material `{shown}` is not allowed"));
        }
        if let Some(lock) = &rule.lock
            && !digests.iter().any(|hex| lock.digests.contains(*hex))
        {
            let lock = lock.path.display();
            return Err(format!("material `{shown}` is not in {lock}"));
        }
    }
    Ok(format!(", built by {shown} from {} materials", listed.len()))
}
