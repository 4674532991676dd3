use super::*;

#[test]
fn files() {
    let path = |path: &str| Dest::Path(path.into());
    let tar = |dest| OutputArg::Files { form: FilesForm::Tar(dest), split: None };
    let local = |dest: &str, split| OutputArg::Files { form: FilesForm::Local(dest.into()), split };
    for (text, output) in [
        ("type=tar,\"dest=a,b.tar\"", tar(path("a,b.tar"))),
        ("type=tar,\"dest=a\"\"b\"", tar(path("a\"b"))),
        ("type=tar", tar(Dest::Stdout)),
        ("-", tar(Dest::Stdout)),
        ("out", local("out", None)),
        ("type=local,dest=x,platform-split=false", local("x", Some(false))),
        ("type=local,mode=copy,dest=x", local("x", None)),
        ("type=cacheonly", OutputArg::CacheOnly),
    ] {
        assert_eq!(text.parse(), Ok(output), "{text}");
    }
}

#[test]
fn images() {
    let archive = |text: &str| match text.parse().unwrap() {
        OutputArg::Archive { form, dest, .. } => (form, dest),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(archive("type=oci,dest=a"), (Archive::Oci, Dest::Path("a".into())));
    assert_eq!(archive("type=oci"), (Archive::Oci, Dest::Stdout));
    assert_eq!(archive("Dest=-,type=docker,tar=true"), (Archive::Docker, Dest::Stdout));
    for text in ["type=oci,dest=a,tar=false", "type=docker,dest=a,tar=0"] {
        assert!(matches!(text.parse(), Ok(OutputArg::Layout { .. })), "{text}");
    }
    let image = |text: &str| match text.parse().unwrap() {
        OutputArg::Image { push, by_digest, canonical, keep, image } => {
            let names: Vec<String> = image.names.iter().map(|(name, _)| name.familiar()).collect();
            (push, by_digest, canonical, keep, names.join(" "))
        }
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(image("type=docker"), (false, false, false, true, String::new()));
    assert_eq!(image("type=registry"), (true, false, false, true, String::new()));
    assert_eq!(
        image("type=image,\"name=a,b:2\",push=true"),
        (true, false, false, true, "a:latest b:2".into())
    );
    assert_eq!(
        image(
            "type=image,name=localhost:5000/a,push-by-digest=true,name-canonical=,push=1,store=0"
        ),
        (true, true, true, false, "localhost:5000/a:latest".into())
    );
    let style = |text: &str| match text.parse().unwrap() {
        OutputArg::Archive { image, .. } | OutputArg::Image { image, .. } => image,
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(style("type=image,oci-mediatypes=false").style.dialect, Dialect::Docker);
    let both = style("type=oci,dest=x,compression=zstd,force-compression=true,annotation.A.b=c");
    assert_eq!((both.compression, both.force), (Some(Compression::Zstd), true));
    assert_eq!((both.style.notes.len(), both.style.notes[0].key.as_str()), (1, "A.b"));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (text, says) in [
        ("", "name=value"),
        ("dest=x", "no type="),
        ("type=zip,dest=x", "type `zip`"),
        ("type=oci,dest=", "dest= is empty"),
        ("type=oci,type=oci,dest=x", "`type` is given twice"),
        ("type=oci,dest=x,destination=y", "`dest` is given twice"),
        ("type=oci,dest=x,push=true", "type=oci has no attribute `push`"),
        ("type=local", "no dest=FOLDER"),
        ("type=local,dest=-", "a folder"),
        ("type=oci,tar=false", "no dest=FOLDER"),
        ("type=oci,tar=false,dest=-", "a folder"),
        ("type=local,dest=x,mode=delete", "mode=delete"),
        ("type=tar,\"dest=x", "quote"),
        ("a,b", "name=value"),
        ("type=oci,tar=perhaps", "tar=perhaps"),
        ("type=oci,compression=estargz", "compression=estargz"),
        ("type=oci,compression=lzma", "compression=lzma"),
        ("type=oci,compression-level=high", "compression-level=high"),
        ("type=docker,dest=x,compression=zstd", "compression cannot"),
        ("type=docker,dest=x,oci-mediatypes=false", "oci-mediatypes=false"),
        ("type=docker,dest=x,annotation.a=b", "annotation"),
        ("type=oci,oci-mediatypes=false,compression=zstd", "compression=zstd"),
        ("type=oci,oci-mediatypes=false,annotation.a=b", "annotation"),
        ("type=image,unpack=true", "unpack=true"),
        ("type=image,registry.insecure=true", "--insecure"),
        ("type=image,name=a:1,push-by-digest=true,push=true", "push-by-digest=true"),
        ("type=image,name=Team/App", "name"),
        ("type=oci,rewrite-timestamp=false", "SOURCE_DATE_EPOCH"),
        ("type=image,attestation-inline=true", "attestation-inline=true"),
        ("type=image,annotation-layer.a=b", "`layer`"),
        ("type=cacheonly,dest=x", "type=cacheonly has no attribute `dest`"),
    ] {
        let said = text.parse::<OutputArg>().unwrap_err().to_string();
        assert!(said.contains(says), "{text}: {said}");
    }
}
