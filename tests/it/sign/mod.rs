//! Signatures: cosign believes kiln's, kiln believes cosign's, and neither what is wrong.

mod attached;
mod build;
mod cosign;
mod files;
mod hostile;
mod keys;
mod policy;

use std::path::PathBuf;

use kiln::image::{AnyImage, Descriptor};
use kiln::reference::Reference;

use crate::support::kiln::{Kiln, Output, tool};
use crate::support::skip;

/// A place to sign at: a store with an image, and keys.
struct Desk {
    kiln: Kiln,
}

const PASSWORD: &str = "not a secret";

impl Desk {
    /// With keys by these names, as `NAME.key` and `NAME.pub`.
    fn new(keys: &[&str]) -> Self {
        let mut kiln = Kiln::new();
        kiln.set("COSIGN_PASSWORD", PASSWORD);
        for name in keys {
            kiln.ok(&format!("generate-key-pair --output-key-prefix {name}"));
        }
        Self { kiln }
    }

    fn ok(&self, line: &str) -> Output {
        self.kiln.ok(line)
    }

    #[track_caller]
    fn fails(&self, line: &str, says: &str) -> Output {
        self.kiln.fails(1, line).says(says)
    }

    /// An image of the store with a name.
    fn image(&self, name: &str) -> Descriptor {
        self.kept(name, "linux/amd64")
    }

    fn kept(&self, name: &str, platform: &str) -> Descriptor {
        let image = AnyImage::Image(crate::cli::image(&self.kiln, platform));
        self.kiln.store().keep(&name.parse().unwrap(), &image).unwrap();
        image.raw().descriptor()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.kiln.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A key as OpenSSL makes it, as `NAME.pem` and `NAME.pub`.
    fn openssl(&self, name: &str, make: &str) {
        let (secret, public) =
            (self.kiln.path(format!("{name}.pem")), self.kiln.path(format!("{name}.pub")));
        let (secret, public) = (secret.to_str().unwrap(), public.to_str().unwrap());
        let (command, options) = make.split_once(' ').unwrap();
        let words: Vec<&str> =
            [command, "-out", secret].into_iter().chain(options.split(' ')).collect();
        tool("openssl", &words);
        tool("openssl", &["pkey", "-in", secret, "-pubout", "-out", public]);
    }

    /// cosign in this home, if the set-up has it.
    fn cosign(&self) -> Option<Cosign<'_>> {
        match kiln::env::path("KILN_TEST_COSIGN") {
            Some(program) => Some(Cosign { desk: self, program }),
            None => {
                skip("KILN_TEST_COSIGN is not set; tests/run builds cosign and sets it");
                None
            }
        }
    }
}

struct Cosign<'a> {
    desk: &'a Desk,
    program: PathBuf,
}

impl Cosign<'_> {
    fn run(&self, line: &str) -> Output {
        let mut call = self.desk.kiln.program(&self.program);
        call.command.args(line.split_whitespace());
        call.run()
    }

    /// Signs or attests without a log, in a registry without TLS.
    #[track_caller]
    fn signs(&self, line: &str) {
        let offline = "--use-signing-config=false --tlog-upload=false --allow-http-registry -y";
        self.run(&format!("{line} {offline}")).success();
    }

    fn verify(&self, line: &str) -> Output {
        self.run(&format!("{line} --insecure-ignore-tlog --allow-http-registry"))
    }
}
