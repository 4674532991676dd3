//! The one integration binary: features against real parts.

mod cli;
mod sandbox;
mod support;
