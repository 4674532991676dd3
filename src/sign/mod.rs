//! Signatures with keys in files: made, and believed or not.
//!
//! A signature is what cosign makes of one: an in-toto statement in a DSSE envelope in
//! sigstore's bundle, which refers to the image; cosign's older forms are read too. There is no
//! certificate, no transparency log and no time in it, since all three want a network and two
//! differ each time. [`sign`] and [`attest`] make them, [`judge`] says whether an image has what
//! a [`Rule`] asks for; both work on a [`Place`](crate::copy::Place), and on the one digest that
//! it gives for its name. Files have a bundle beside them ([`sign_file`]).
//!
//! Nothing that is not signed is believed. Private keys and passwords show in no message, and
//! memory that held them here is wiped; the copy within ring is not.

mod envelope;
mod error;
mod evidence;
mod file;
mod judge;
mod key;
mod make;
mod policy;
mod sealed;
mod statement;

pub use error::{KeyError, SignError};
pub use file::{sign_file, verify_file};
pub use judge::{Check, Verdict, judge};
pub use key::{PrivateKey, PublicKey, sealed_pem};
pub use make::{Attestations, Signed, Signing, attest, sign, sign_stored};
pub use policy::{Policy, Rule, Signer, predicate, private_key, public_key};
pub use statement::{predicate_type, type_names};
