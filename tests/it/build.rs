//! Whole builds by the binary, as root and as an ordinary user.

mod bench;
mod cache;
mod copy;
mod run;
mod same;
