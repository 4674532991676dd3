//! Where an image is, for commands that mean the store unless something else is said.

use std::str::FromStr;

use crate::cli::invocation::Invocation;
use crate::cli::report::CliError;
use crate::copy::{Place, PlaceError};
use crate::store::StoreError;

/// `NAME` in the store, `docker://NAME` in a registry, `oci:DIR[:TAG]`, or another place that
/// `kiln copy` knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlace(Place);

impl FromStr for ImagePlace {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        Ok(Self(match text.parse()? {
            Place::Registry { name, explicit: false, .. } => Place::Store(name),
            place => place,
        }))
    }
}

impl ImagePlace {
    /// The place, with the name that the image has in the store.
    ///
    /// # Errors
    /// If the store does not have it.
    pub fn found(&self, invocation: &Invocation) -> Result<Place, CliError> {
        let Place::Store(name) = &self.0 else { return Ok(self.0.clone()) };
        match invocation.named(name)? {
            Some((name, _)) => Ok(Place::Store(name)),
            None => {
                let own = name.familiar();
                Err(CliError::from(StoreError::NoImage(name.clone())).hint(format!(
                    "`kiln images` lists what is there; in its registry it is docker://{own}"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_stores() {
        for (text, shown) in [
            ("app:1", "store:app:1"),
            ("store:app:1", "store:app:1"),
            ("docker://app:1", "app:1"),
            ("oci:a:1", "oci:a:1"),
        ] {
            assert_eq!(text.parse::<ImagePlace>().unwrap().0.to_string(), shown);
        }
        assert!("dir:/a".parse::<ImagePlace>().is_err());
    }
}
