//! `--sandbox`.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::sandbox::Tier;

/// A tier, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxTier(pub Tier);

impl SandboxTier {
    /// In the order of [`Tier::ALL`].
    const ALL: [Self; Tier::ALL.len()] = {
        let mut all = [Self(Tier::ALL[0]); Tier::ALL.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = Self(Tier::ALL[at]);
            at += 1;
        }
        all
    };
}

impl ValueEnum for SandboxTier {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.0.name()).help(self.0.summary()))
    }
}
