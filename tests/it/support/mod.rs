//! What tests of several areas need.

pub(crate) mod http;
pub(crate) mod kiln;
pub(crate) mod registry;
