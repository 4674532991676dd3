//! The one integration binary: features against real parts.

mod cli;
mod registry;
mod sandbox;
mod support;
