//! Container images without a daemon.
// Level 0: words that every layer speaks.
pub mod atomic;
pub mod diagnostic;
pub mod digest;
pub mod env;
pub mod epoch;
pub mod platform;
pub mod progress;
pub mod reference;
// Level 1: formats, pure or streams.
pub mod image;
pub mod layer;
// Level 2: places.
pub mod net;
pub mod sandbox;
pub mod store;
// Level 3: crafts.
pub mod registry;
