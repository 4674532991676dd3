//! The files of an image in one tar: what its layers amount to, with owners,
//! modes, times, links and attributes, without its config.

use std::io::Write;

use super::{OutputError, Split, Work, tree};
use crate::image::AnyImage;
use crate::layer::{Compression, LayerForm, LayerWriter};
use crate::store::Store;

/// Writes it; the same image gives the same bytes.
///
/// # Errors
/// If a layer is absent or damaged, or nothing can be written.
pub fn write_tar(
    image: &AnyImage,
    split: Split,
    store: &Store,
    to: &mut (dyn Write + '_),
    work: &Work<'_>,
) -> Result<(), OutputError> {
    let form = LayerForm::from(Compression::None);
    let mut writer = LayerWriter::new(to, form);
    tree::walk(image, split, store, work, |entry, content| {
        writer.entry(entry, content).map_err(OutputError::Write)
    })?;
    let (to, _) = writer.finish().map_err(OutputError::Write)?;
    to.flush().map_err(OutputError::Write)
}
