//! Real parts that tests run kiln against.

pub(crate) mod http;
pub(crate) mod registry;
