//! What is told of blobs on their way: by the program in each form, and by the library
//! where a registry fails.

use std::collections::BTreeMap;

use serde_json::Value;

use super::faults::taking;
use super::*;
use crate::support::kiln::{Kiln, Output};

/// The objects of `--progress rawjson`.
fn objects(output: &Output) -> Vec<Value> {
    output.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// The ends of transfers by digest, and the sum at the end.
fn told(output: &Output) -> (BTreeMap<String, Value>, Value) {
    let objects = objects(output);
    let of = |object: &Value| object["transfers"].as_array().cloned().unwrap_or_default();
    let all: Vec<Value> = objects.iter().flat_map(of).collect();
    let mut ends = BTreeMap::new();
    for begun in all.iter().filter(|one| one["event"] == "begin") {
        let of_it: Vec<&Value> = all.iter().filter(|one| one["id"] == begun["id"]).collect();
        for field in ["name", "vertex", "way", "digest", "total"] {
            assert!(of_it.iter().all(|one| one[field] == begun[field]), "{field}: {of_it:#?}");
        }
        let end = of_it.last().unwrap();
        assert_eq!((&begun["bytes"], &end["event"]), (&0.into(), &"end".into()), "{of_it:#?}");
        let vertexes = objects.iter().flat_map(|object| object["vertexes"].as_array());
        let mut vertexes = vertexes.flatten();
        assert!(vertexes.any(|one| one["digest"] == begun["vertex"]), "{begun}");
        ends.insert(end["digest"].as_str().unwrap().to_owned(), (*end).clone());
    }
    let sums: Vec<&Value> = objects.iter().filter_map(|one| one.get("transferred")).collect();
    assert_eq!(sums.len(), 1, "{objects:#?}");
    (ends, sums[0].clone())
}

fn outcomes(ends: &BTreeMap<String, Value>, blobs: &[BlobDigest]) -> Vec<String> {
    let outcome = |blob: &BlobDigest| ends[&blob.to_string()]["outcome"].as_str().unwrap();
    blobs.iter().map(|blob| outcome(blob).to_owned()).collect()
}

#[test]
fn programs_are_told_what_became_of_each_blob() {
    let registry = TestRegistry::start(None);
    let (kiln, other) = (Kiln::new(), Kiln::new());
    let image = image(&kiln.store(), &amd64(), &[b"one", &noise(300_000)]);
    let layers: Vec<BlobDigest> = image.layers().iter().map(|layer| layer.digest).collect();
    let size: u64 = image.layers().iter().map(|layer| layer.size).sum();
    let config = image.config_raw().clone();
    let all = AnyImage::Image(image);
    kiln.store().keep(&name("app"), &all).unwrap();
    let push = |kiln: &Kiln, to: &str, mode: &str| {
        kiln.ok(&format!("push app {}/{to} --progress {mode}", registry.addr))
    };

    let (ends, sum) = told(&push(&kiln, "a:1", "rawjson"));
    assert_eq!(ends.len(), 3, "{ends:#?}");
    assert_eq!(outcomes(&ends, &layers), ["done", "done"]);
    assert_eq!(outcomes(&ends, &[config.digest]), ["done"]);
    for end in ends.values() {
        assert_eq!((&end["bytes"], &end["way"]), (&end["total"], &"push".into()), "{end}");
    }
    let sent = (&sum["way"], &sum["blobs_sent"], &sum["bytes_sent"]);
    let bytes = size + config.bytes.len() as u64;
    assert_eq!(sent, (&"push".into(), &3.into(), &bytes.into()), "{sum}");

    // The name means this image: nothing is asked of any blob.
    let (ends, sum) = told(&push(&kiln, "a:1", "rawjson"));
    assert_eq!((ends.len(), &sum["blobs_sent"]), (0, &0.into()), "{sum}");

    // Another repository of the registry.
    let (ends, sum) = told(&push(&kiln, "team/b:1", "rawjson"));
    assert_eq!(outcomes(&ends, &layers), ["mounted", "mounted"]);
    assert!(layers.iter().all(|layer| ends[&layer.to_string()]["from"] == "a"), "{ends:#?}");
    let became = (&sum["blobs_sent"], &sum["blobs_mounted"], &sum["bytes_sent"]);
    assert_eq!(became, (&1.into(), &2.into(), &config.bytes.len().into()), "{sum}");

    // Fetched twice by somebody who knows nothing of it, and sent from there.
    let pull = |mode: &str| {
        other.ok(&format!("pull {}/a:1 --platform linux/amd64 --progress {mode}", registry.addr))
    };
    let (ends, sum) = told(&pull("rawjson"));
    assert_eq!(outcomes(&ends, &layers), ["done", "done"]);
    assert!(ends.values().all(|end| end["bytes"] == end["total"] && end["way"] == "pull"));
    assert_eq!((&sum["blobs_fetched"], &sum["bytes_fetched"]), (&2.into(), &size.into()), "{sum}");
    let (ends, sum) = told(&pull("rawjson"));
    assert_eq!(outcomes(&ends, &layers), ["exists", "exists"]);
    assert_eq!((&sum["blobs_fetched"], &sum["blobs_kept"]), (&0.into(), &2.into()), "{sum}");
    let from = format!("{}/a:1", registry.addr);
    other.ok(&format!("tag {from} app"));
    let (ends, sum) = told(&push(&other, "a:2", "rawjson"));
    assert_eq!(outcomes(&ends, &layers), ["exists", "exists"]);
    assert_eq!((&sum["blobs_existed"], &sum["blobs_sent"]), (&2.into(), &1.into()), "{sum}");

    // The same for people.
    for (output, line) in [
        (push(&kiln, "c:1", "plain"), " MOUNTED from "),
        (push(&kiln, "c:1", "plain"), "push: nothing to move\n"),
        (push(&kiln, "c:2", "plain"), " EXISTS\n"),
        (push(&kiln, "d:1", "plain"), "push: 1 blob sent ("),
        (push(&kiln, "e:1", "plain"), "B), 2 blobs mounted\n"),
        (pull("plain"), "pull: 2 blobs in the store already\n"),
    ] {
        output.says(line);
    }
    let fresh = Kiln::new();
    let pulled = fresh.ok(&format!("pull {from} --platform linux/amd64 --progress plain"));
    pulled.says(" DONE ").says("kB").says("pull: 2 blobs fetched (");
    let quiet = fresh.ok(&format!("pull {from} --platform linux/amd64 --progress quiet"));
    assert_eq!(quiet.stderr, "");
}

/// What a transfer was heard to say.
fn watched() -> (Progress, Arc<Mutex<Vec<Event>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&heard);
    (Progress::new(move |event| log.lock().unwrap().push(event)), heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_says_so_and_where_it_goes_on() {
    let here = here();
    let memory = Memory::new(&here.store, &noise(200_000));
    for ranges in [true, false] {
        let (of_server, turn) = (Arc::clone(&memory), AtomicUsize::new(0));
        let server = Server::start(move |request| {
            if !of_server.is_layer(request) {
                return of_server.get(request);
            }
            let bytes = of_server.layer_bytes();
            let begin = request.header("range").and_then(|text| {
                text.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
            });
            let first = turn.fetch_add(1, Ordering::SeqCst) == 0;
            match begin {
                None if first => {
                    let mut whole = answer("200 OK", &[], bytes);
                    whole.truncate(whole.len() / 2);
                    whole
                }
                Some(begin) if ranges => {
                    let range = format!("bytes {begin}-{}/{}", bytes.len() - 1, bytes.len());
                    answer("206 Partial Content", &[("Content-Range", &range)], &bytes[begin..])
                }
                _ => answer("200 OK", &[], bytes),
            }
        })
        .await;
        let (progress, heard) = watched();
        let (from, at) = (name(format!("{}/app:1", server.addr)), anonymous(here.path()));
        let into = here.other(if ranges { "ranges" } else { "none" });
        pull(&from, &Want::One(amd64()), &into, &at, &progress).await.unwrap();
        progress.transferred(kiln::progress::Way::Pull);
        let heard = heard.lock().unwrap();
        let waits = heard.iter().filter_map(|event| match event {
            Event::Waiting { why, .. } => Some(why.as_str()),
            _ => None,
        });
        let waits: Vec<&str> = waits.collect();
        assert!(matches!(waits[..], [why] if why.contains("interrupted")), "{waits:?}");
        let resumed: Vec<u64> = heard
            .iter()
            .filter_map(|event| match event {
                Event::Resumed { at, .. } => Some(*at),
                _ => None,
            })
            .collect();
        let size = memory.layer.size;
        let ended = heard.iter().any(|event| matches!(event, Event::End { end: End::Done, .. }));
        assert!(ended, "{heard:?}");
        let Some(Event::Transferred { all, .. }) = heard.last() else { panic!("{heard:?}") };
        assert_eq!(all.fetched, 1);
        if ranges {
            assert!(matches!(resumed[..], [at] if at > 0 && at < size), "{resumed:?}");
        } else {
            assert!(resumed.is_empty(), "{resumed:?}");
        }
        assert_eq!(all.bytes_fetched, size, "each byte once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_fails_says_why_it_waits() {
    let here = here();
    let image = AnyImage::Image(image(&here.store, &amd64(), &[&noise(700_000)]));
    let server = taking("502").await;
    let (progress, heard) = watched();
    let progress = progress.detailed(true);
    let to = name(format!("{}/app:1", server.addr));
    push(&image, &to, &here.store, &anonymous(here.path()), &progress).await.unwrap();
    let heard = heard.lock().unwrap();
    let waits: Vec<&str> = heard
        .iter()
        .filter_map(|event| match event {
            Event::Waiting { why, .. } => Some(why.as_str()),
            // The config's upload may be the first; its request is repeated by itself.
            Event::Note(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let plain = |why: &str| why.contains("502") && !why.contains('\u{1b}');
    assert!(matches!(waits[..], [why] if plain(why)), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_to_wait_is_told_of() {
    let here = here();
    let memory = Memory::new(&here.store, b"small");
    let turn = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if request.path.contains("/manifests/") && turn.fetch_add(1, Ordering::SeqCst) == 0 {
            return answer("429 Too Many Requests", &[("Retry-After", "1")], b"slow down");
        }
        memory.get(request)
    })
    .await;
    let (progress, heard) = watched();
    let (from, at) = (name(format!("{}/app:1", server.addr)), anonymous(here.path()));
    pull(&from, &Want::One(amd64()), &here.other("o"), &at, &progress).await.unwrap();
    let heard = heard.lock().unwrap();
    let told = heard.iter().any(|event| match event {
        Event::Note(text) => {
            text.starts_with("waiting 1.0 s: ") && text.contains("answered 429 Too Many Requests")
        }
        _ => false,
    });
    assert!(told, "{heard:?}");
}
