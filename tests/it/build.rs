//! Whole builds by the binary, as root and as an ordinary user.

mod archives;
mod bench;
mod cache;
mod contexts;
mod copy;
mod copy_flags;
mod failing;
mod files;
mod git;
mod heredoc;
mod mounts;
mod parity;
mod platforms;
mod remote;
mod run;
mod same;
mod stopped;
