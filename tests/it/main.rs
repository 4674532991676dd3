//! The one integration binary: features against real parts.

mod build;
mod cli;
mod container;
mod deploy;
mod house;
mod registry;
mod sandbox;
mod support;
