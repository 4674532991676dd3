//! What tests of several areas need.

pub(crate) mod kiln;
