//! From a Dockerfile to the steps that build it.
mod error;
mod graph;
mod key;
mod op;

pub use error::PlanError;
pub use graph::{Base, BaseRequest, Bases, Plan, PlanRequest, Planned, Step, StepId};
pub use key::{CacheKey, FORMAT, InputKey};
pub use op::{
    BaseImage, BaseOp, CopyFrom, CopyHints, CopyOp, Op, Proxies, RunHints, RunOp, WorkdirOp,
};
