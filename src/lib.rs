//! Container images without a daemon.
pub mod atomic;
pub mod deploy;
pub mod diagnostic;
pub mod digest;
pub mod env;
pub mod epoch;
pub mod platform;
pub mod progress;
pub mod reference;
