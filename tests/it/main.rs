//! The one integration binary: features against real parts.

mod airgap;
mod attest;
mod build;
mod bundle;
mod cli;
mod container;
mod deploy;
mod e2e;
mod exact;
mod house;
mod parity;
mod registry;
mod sandbox;
mod sign;
mod support;
