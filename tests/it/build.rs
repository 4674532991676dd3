//! Whole builds by the binary, as root and as an ordinary user.

mod archives;
mod bench;
mod cache;
mod contexts;
mod copy;
mod copy_flags;
mod failing;
mod files;
mod flags;
mod foreign;
mod git;
mod heredoc;
mod life;
mod limits;
mod mounts;
mod outputs;
mod parity;
mod platforms;
mod pushed;
mod remote;
mod rules;
mod run;
mod same;
mod stopped;
mod tiers;
