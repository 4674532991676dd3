//! Two builds of a Dockerfile whose RUN writes the time, and what `kiln diff` says of them.

use super::bench::{Bench, Caller};

#[test]
fn a_run_that_writes_the_time_is_found() {
    let bench = Bench::with_busybox(Caller::Own);
    let dockerfile = "FROM busybox\nRUN echo fixed >/fixed\n\
                      RUN mkdir -p /var/log/apt && cat /proc/sys/kernel/random/uuid >/var/log/apt/x && \
                      echo same >/same\nCMD [\"/bin/sh\"]\n";
    for name in ["one", "two"] {
        bench.build(dockerfile, &format!("--no-cache -t {name}")).success();
    }
    let diff = |args: &[&str]| {
        let args = ["diff"].into_iter().chain(args.iter().copied());
        bench.run(&mut bench.call(args))
    };
    let json = diff(&["--format", "json", "one", "two"]).failure(1).json();
    let image = &json["images"][0];
    assert_eq!((image.get("config"), image.get("manifest")), (None, None), "{json}");
    let layers = image["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{json}");
    assert_eq!(image["sameLayers"], layers[0]["a"]["number"].as_u64().unwrap() - 1);
    let files = layers[0]["files"]["files"].as_array().unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["var/log/apt/x"], "{json}");
    assert_eq!(files[0]["content"]["format"], "text");
    assert_eq!(files[0]["content"]["diff"].as_array().unwrap().len(), 3);
    let text = diff(&["one", "two"]).failure(1).text();
    assert!(text.contains("layer 3 differs: RUN /bin/sh -c mkdir -p /var/log/apt"), "{text}");
    assert!(text.contains("hint: package managers log with times"), "{text}");
    diff(&["one", "one"]).success();
}
