//! The one integration binary.

mod registry;
mod support;
