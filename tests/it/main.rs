//! The one integration binary: linking is the slow part of a test build.

mod deploy;
