//! What all builders read: kiln, the base image, packages and steps, where every user
//! can read them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::kiln::{data, program};
use crate::support::skip;

pub(super) struct Shared {
    folder: tempfile::TempDir,
}

impl Shared {
    /// `None`, and says so, where the tests have no image.
    pub(super) fn get() -> Option<Self> {
        let Some(images) = kiln::env::path("KILN_TEST_IMAGES") else {
            skip("there is no base image; see tests/run");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("kiln-exact-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let shared = Self { folder };
        fs::copy(program(), shared.kiln()).unwrap();
        spread(&images.join("debian"), &shared.image());
        spread(&data().join("exact"), &shared.steps());
        let calls = shared.steps().join("calls.bin");
        fs::copy(calls_program(), &calls).unwrap();
        fs::set_permissions(&calls, fs::Permissions::from_mode(0o755)).unwrap();
        // Behind some proxies these are not the usual ones.
        if let Ok(bundle) = fs::read("/etc/ssl/certs/ca-certificates.crt") {
            fs::write(shared.steps().join("certificates.crt"), bundle).unwrap();
        }
        match kiln::env::path("KILN_TEST_DEBS") {
            Some(debs) => spread(&debs, &shared.debs()),
            None => fs::create_dir(shared.debs()).unwrap(),
        }
        Some(shared)
    }

    pub(super) fn kiln(&self) -> PathBuf {
        self.folder.path().join("kiln")
    }

    /// An OCI layout.
    pub(super) fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(super) fn steps(&self) -> PathBuf {
        self.folder.path().join("steps")
    }

    pub(super) fn debs(&self) -> PathBuf {
        self.folder.path().join("debs")
    }
}

/// The program of `examples/calls`, which cargo builds beside the tests.
fn calls_program() -> PathBuf {
    kiln::env::path("KILN_TEST_CALLS").unwrap_or_else(|| {
        let own = std::env::current_exe().unwrap();
        own.ancestors().nth(2).unwrap().join("examples/calls")
    })
}

/// A copy that everybody can read; large files are linked where that can be.
fn spread(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
            continue;
        }
        let open = entry.metadata().unwrap().permissions().mode() & 0o7777 == 0o644;
        if !(open && fs::hard_link(entry.path(), &target).is_ok()) {
            fs::copy(entry.path(), &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}
