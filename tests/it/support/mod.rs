<<<<<<< HEAD
//! What tests of several areas need.

pub(crate) mod kiln;
=======
//! Real parts that tests run kiln against.

pub(crate) mod http;
pub(crate) mod registry;
>>>>>>> registry
