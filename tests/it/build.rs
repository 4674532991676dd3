//! Whole builds by the binary, as root and as an ordinary user.

mod archives;
mod bench;
mod cache;
mod chroot;
mod contexts;
mod copy;
mod copy_flags;
mod failing;
mod files;
mod flags;
mod foreign;
mod git;
mod heredoc;
mod limits;
mod mounts;
mod nested;
mod outputs;
mod parity;
mod platforms;
mod pushed;
mod remote;
mod run;
mod same;
mod stopped;
mod storage;
mod tiers;
