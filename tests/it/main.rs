//! The one integration binary: features against real parts.

mod build;
mod cli;
mod deploy;
mod registry;
mod sandbox;
mod support;
