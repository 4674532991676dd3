//! The one integration binary: features against real parts.

mod sandbox;
