//! The Dockerfile language: text in, [`Dockerfile`] and diagnostics out.
//!
//! Follows the Dockerfile reference and, where that is silent, BuildKit's
//! frontend. Opens no file and no socket. The AST is as written: [`expand()`] and
//! its kin are called by whoever knows the variables. What the language has and
//! kiln does not build is recognised and refused with the place and a way around.
//!
//! [`Ignore`] reads `.dockerignore`, [`glob`] matches the wildcards of `COPY`.

mod ast;
mod chmod;
pub mod expand;
mod flags;
mod git;
pub mod glob;
mod heredoc;
pub mod history;
mod ignore;
mod instruction;
mod json;
mod lexer;
pub mod lint;
mod parse;
mod suggest;
mod words;

pub use ast::{CommandLine, Dockerfile, Instruction, Note, Pair, Spanned, Stage};
pub use chmod::{Chmod, ChmodError};
pub use expand::{
    ExpandError, Expanded, ExpandedWords, Variable, expand, expand_unquoted, expand_words,
};
pub use git::{GitSource, GitSourceError, GitTime, Login, Transport};
pub use heredoc::Heredoc;
pub use ignore::{Above, Ignore, IgnoreError, IgnoreProblem, Rule};
pub use instruction::{
    Add, Arg, ArgItem, Cmd, Copy, Entrypoint, Env, Expose, From, HealthTest, Healthcheck, Inline,
    Label, Maintainer, Mount, MountType, Onbuild, PortError, Ports, Remote, Run, RunNetwork,
    Security, Sharing, Shell, Stopsignal, Transfer, User, Volume, Workdir, remote,
};
pub use parse::{parse, parse_trigger};
pub use suggest::nearest;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod tests;
