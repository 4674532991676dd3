//! What is written besides the store.

use std::io::Write;

use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::cli::value::OutputArg;
use crate::image::AnyImage;
use crate::output::{self, Archive, Dest, Kind, Named, Work};
use crate::platform::Platform;
use crate::progress::Progress;
use crate::reference::Reference;

pub(super) fn write(
    output: &OutputArg,
    image: &AnyImage,
    names: &[Reference],
    progress: &Progress,
    invocation: &Invocation,
) -> Result<(), CliError> {
    let images = [Named { names: names.to_vec(), image: image.clone() }];
    let store = invocation.store()?;
    let task = progress.task("write the output");
    let interrupt = invocation.interrupt()?;
    let stop = || interrupt.signal().is_some();
    let work = Work::new(&task, &stop);
    let platform = Platform::host();
    let fill = |to: &mut dyn Write| match output.kind {
        Kind::Oci => output::write_archive(Archive::Oci, &images, &platform, store, to, &work),
        Kind::Docker => {
            output::write_archive(Archive::Docker, &images, &platform, store, to, &work)
        }
        Kind::Tar | Kind::Local => output::write_tar(image, store, to, &work),
    };
    match (&output.dest, output.kind) {
        (Dest::Path(path), Kind::Local) => {
            let left = output::write_local(image, store, path, &work)?;
            if let Some(first) = left.devices.first() {
                progress.warn(match left.devices.len() {
                    1 => format!("device `{first}` is left out of {}", path.display()),
                    all => {
                        format!("{all} devices are left out of {}: `{first}`, …", path.display())
                    }
                });
            }
        }
        (Dest::Path(path), _) => output::to_file(path, fill)?,
        (Dest::Stdout, _) => fill(&mut std::io::stdout().lock())?,
    }
    task.done();
    Ok(())
}
