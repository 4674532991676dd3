//! Whole builds by the binary, as root and as an ordinary user.

mod bench;
mod copy;
mod run;
