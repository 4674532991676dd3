//! Indexes, and images platform by platform.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::files::Pair;
use super::layer::Sides;
use super::report::{Change, FieldChange, ImageChange, Report, Top};
use super::table::{Contents, Room, Table};
use super::told::Told;
use super::{CompareError, Options, Side, Work, document};
use crate::digest::{BlobDigest, DiffId};
use crate::image::{AnyImage, Image, ImageError, strict_json};
use crate::platform::Platform;
use crate::store::StoreError;

pub(super) fn compare(
    a: Side<'_>,
    b: Side<'_>,
    options: &Options<'_>,
    work: Work<'_>,
) -> Result<Report, CompareError> {
    let top = |side: &Side<'_>| {
        let raw = side.image.raw();
        let media_type = raw.media_type.as_str().to_owned();
        Top { name: side.name.to_owned(), digest: raw.digest, media_type }
    };
    let mut report =
        Report { same: false, a: top(&a), b: top(&b), index: Vec::new(), images: Vec::new() };
    if let Some(platform) = &options.platform {
        let images = [chosen(&a, platform)?, chosen(&b, platform)?];
        report.images.extend(both(images, [&a, &b], options, work)?);
        report.same = images[0].digest() == images[1].digest();
        return Ok(report);
    }
    if report.a.digest == report.b.digest {
        report.same = true;
        return Ok(report);
    }
    report.index = index(&a, &b)?;
    let (of_a, of_b) = (by_platform(a.image), by_platform(b.image));
    let mut platforms: Vec<_> = of_a.iter().map(|(platform, _)| platform).collect();
    platforms.extend(of_b.iter().map(|(platform, _)| platform));
    let mut seen = BTreeSet::new();
    platforms.retain(|platform| seen.insert(*platform));
    // An image against an index is compared with the one of its platform.
    let lone = matches!((a.image, b.image), (AnyImage::Image(_), AnyImage::Image(_)));
    if lone && let ([(_, one)], [(_, other)]) = (of_a.as_slice(), of_b.as_slice()) {
        report.images.extend(both([one, other], [&a, &b], options, work)?);
        return Ok(report);
    }
    for platform in platforms {
        let find = |all: &[(String, &Image)]| {
            all.iter().find(|(other, _)| other == platform).map(|(_, image)| (*image).clone())
        };
        match (find(&of_a), find(&of_b)) {
            (Some(one), Some(other)) => {
                report.images.extend(both([&one, &other], [&a, &b], options, work)?);
            }
            (one, other) => report.images.push(ImageChange {
                platform: platform.clone(),
                change: if one.is_some() { Change::Removed } else { Change::Added },
                a: one.map(|image| image.digest()),
                b: other.map(|image| image.digest()),
                manifest: Vec::new(),
                config: Vec::new(),
                same_layers: 0,
                layers: Vec::new(),
                tree: None,
            }),
        }
    }
    Ok(report)
}

/// The image for a platform: the only one, or the nearest.
fn chosen<'i>(side: &Side<'i>, platform: &Platform) -> Result<&'i Image, CompareError> {
    let images = side.image.images();
    let near = |image: &&Image| image.platform().distance(platform);
    let fitting = images.iter().filter(|image| near(image).is_some());
    fitting.min_by_key(near).ok_or_else(|| CompareError::NoPlatform {
        image: side.name.to_owned(),
        wanted: platform.to_string(),
        have: images.iter().map(|image| image.platform().to_string()).collect(),
    })
}

/// Images with their platforms; a second one of a platform has a number.
fn by_platform(image: &AnyImage) -> Vec<(String, &Image)> {
    let mut all: Vec<(String, &Image)> = Vec::new();
    let mut names = Names::default();
    for one in image.images() {
        all.push((names.name(&one.platform().to_string()), one));
    }
    all
}

/// Gives names that are different: the second one of a kind has a number.
#[derive(Default)]
struct Names {
    counts: BTreeMap<String, usize>,
    taken: BTreeSet<String>,
}

impl Names {
    fn name(&mut self, kind: &str) -> String {
        let count = self.counts.entry(kind.to_owned()).or_default();
        loop {
            *count += 1;
            let name = if *count == 1 { kind.to_owned() } else { format!("{kind}#{count}") };
            // A platform may be called as another one's second.
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

fn wrong(digest: BlobDigest) -> impl Fn(ImageError) -> CompareError {
    move |source| StoreError::Image { digest, source }.into()
}

/// Fields of two indexes, or that only one side is one.
fn index(a: &Side<'_>, b: &Side<'_>) -> Result<Vec<FieldChange>, CompareError> {
    let kind = |side: &Side<'_>| match side.image {
        AnyImage::Image(_) => "image",
        AnyImage::Index { .. } => "index",
    };
    let (AnyImage::Index { raw: one, .. }, AnyImage::Index { raw: other, .. }) = (a.image, b.image)
    else {
        let same = kind(a) == kind(b);
        let change = (!same).then(|| FieldChange::new("kind", kind(a), kind(b)));
        return Ok(change.into_iter().collect());
    };
    if one.digest == other.digest {
        return Ok(Vec::new());
    }
    let wrong_a = wrong(one.digest);
    let take = |value: &mut Value| {
        if let Some(value) = value.as_object_mut() {
            value.remove("manifests");
        }
    };
    let mut fields = Told::of_document();
    document::compare("index", &one.bytes, &other.bytes, take, &mut fields).map_err(&wrong_a)?;
    let one: Value = strict_json("index", &one.bytes).map_err(&wrong_a)?;
    let other: Value = strict_json("index", &other.bytes).map_err(wrong(other.digest))?;
    let (one, other) = (listed(&one, a.image), listed(&other, b.image));
    let order = |all: &[(String, Value)]| -> Vec<String> {
        all.iter().map(|(name, _)| name.clone()).collect()
    };
    let (order_a, order_b) = (order(&one), order(&other));
    let mut sorted = [order_a.clone(), order_b.clone()];
    sorted.iter_mut().for_each(|all| all.sort());
    if sorted[0] == sorted[1] && order_a != order_b {
        fields.push(|| FieldChange::new("manifests", order_a, order_b).note("another order"));
    }
    let of =
        |all: &'_ [(String, Value)]| -> BTreeMap<String, Value> { all.iter().cloned().collect() };
    let (by_a, by_b) = (of(&one), of(&other));
    let path = |name: &str| document::bracket("manifests", name);
    for (name, value) in &one {
        match by_b.get(name) {
            Some(twin) => document::fields(&path(name), value, twin, &mut fields),
            None => fields.push(|| FieldChange::new(path(name), value.clone(), Value::Null)),
        }
    }
    for (name, value) in other.iter().filter(|(name, _)| !by_a.contains_key(name)) {
        fields.push(|| FieldChange::new(path(name), Value::Null, value.clone()));
    }
    Ok(fields.into_fields())
}

/// The entries by platform. Digest and size of images that are there are left out: what
/// differs in the images tells them.
fn listed(index: &Value, image: &AnyImage) -> Vec<(String, Value)> {
    let images: BTreeSet<String> =
        image.images().iter().map(|image| image.digest().to_string()).collect();
    let there = |entry: &Value| {
        entry.get("digest").and_then(Value::as_str).is_some_and(|digest| images.contains(digest))
    };
    let mut names = Names::default();
    let mut all: Vec<(String, Value)> = Vec::new();
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let platform = entry.get("platform").cloned().unwrap_or_default();
        let name = match serde_json::from_value::<Platform>(platform) {
            Ok(platform) if platform.os == "unknown" => "attestation".to_owned(),
            Ok(platform) => platform.to_string(),
            Err(_) => "no platform".to_owned(),
        };
        let mut value = entry.clone();
        if let Some(value) = value.as_object_mut() {
            let is_there = there(entry);
            value.retain(|key, _| match key.as_str() {
                "digest" | "size" => !is_there,
                "platform" => false,
                _ => true,
            });
        }
        all.push((names.name(&name), value));
    }
    all
}

/// Two images of a platform; nothing if they are the same.
fn both(
    images: [&Image; 2],
    sides: [&Side<'_>; 2],
    options: &Options<'_>,
    work: Work<'_>,
) -> Result<Option<ImageChange>, CompareError> {
    let [a, b] = images;
    if a.digest() == b.digest() {
        return Ok(None);
    }
    let manifest = |value: &mut Value| {
        if let Some(value) = value.as_object_mut() {
            value.remove("layers");
            if let Some(config) = value.get_mut("config").and_then(Value::as_object_mut) {
                config.retain(|key, _| key != "digest" && key != "size");
            }
        }
    };
    let config = |value: &mut Value| {
        if let Some(rootfs) = value.get_mut("rootfs").and_then(Value::as_object_mut) {
            rootfs.remove("diff_ids");
        }
    };
    let own = Sides { images, blobs: sides.map(|side| side.blobs), work };
    let (layers, same_layers) = own.layers(options)?;
    let wrong = wrong(a.digest());
    let (one, other) = (&a.manifest().bytes, &b.manifest().bytes);
    let [mut told, mut told_config] = [Told::of_document(), Told::of_document()];
    document::compare("manifest", one, other, manifest, &mut told).map_err(&wrong)?;
    let (one, other) = (&a.config_raw().bytes, &b.config_raw().bytes);
    document::compare("image config", one, other, config, &mut told_config).map_err(&wrong)?;
    let mut change = ImageChange {
        platform: a.platform().to_string(),
        change: Change::Changed,
        a: Some(a.digest()),
        b: Some(b.digest()),
        manifest: told.into_fields(),
        config: told_config.into_fields(),
        same_layers,
        layers,
        tree: None,
    };
    if options.merged {
        let mut known: BTreeMap<DiffId, Rc<Contents>> = BTreeMap::new();
        let mut room = Room::new();
        let mut tree = |at: usize| {
            let image = sides[at].name.to_owned();
            Table::merged(sides[at].blobs, images[at].layers(), &mut known, &mut room, work)?
                .map_err(|source| CompareError::Tree { image, source })
        };
        let (one, other) = (tree(0)?, tree(1)?);
        let pair = Pair { a: &one, b: &other };
        change.tree = Some(own.files(&pair, images.map(Image::layers), options)?);
    }
    Ok(Some(change))
}
