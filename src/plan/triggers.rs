//! `ONBUILD`: triggers of what a stage starts from, put before its own
//! instructions.
//!
//! A base image's triggers are in its config, those of a stage in the file. Either
//! happens in the stages that start from it, and in none that start from these.
//! All places of a trigger are those of the `FROM` that brings it in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Span};
use crate::dockerfile::{Dockerfile, Instruction, parse_trigger};

use super::bases::{Layout, Origin};
use super::graph::Bases;

/// How many instructions at the start of a stage are triggers, for the stages that
/// were looked at.
#[derive(Debug, Default)]
pub(super) struct Triggers(BTreeMap<usize, usize>);

impl Triggers {
    /// Whether an instruction of a stage is a trigger.
    pub(super) fn has(&self, stage: usize, number: usize) -> bool {
        self.0.get(&stage).is_some_and(|count| number < *count)
    }

    /// Puts triggers into the needed stages whose start is known by now. Gives true
    /// if there were any: they may need other stages and images.
    ///
    /// # Errors
    /// If a trigger cannot be read.
    pub(super) fn adopt(
        &mut self,
        file: &mut Cow<'_, Dockerfile>,
        layout: &Layout,
        bases: &Bases,
    ) -> Result<bool, Vec<Diagnostic>> {
        let mut any = false;
        for at in 0..file.stages.len() {
            let Some(start) = layout.starts[at].as_ref().filter(|_| !self.0.contains_key(&at))
            else {
                continue;
            };
            let texts = match start {
                Origin::Scratch | Origin::Files(_) => Vec::new(),
                Origin::Stage(below) => {
                    let own = self.0.get(below).copied().unwrap_or_default();
                    let instructions = file.stages[*below].instructions.iter().skip(own);
                    let triggers = instructions.filter_map(|instruction| match instruction {
                        Instruction::Onbuild(onbuild) => Some(onbuild.trigger.clone()),
                        _ => None,
                    });
                    triggers.collect()
                }
                Origin::Image { reference, platform } => match bases.get(reference, platform) {
                    Some(base) => base.config.config.on_build.clone().unwrap_or_default(),
                    None => continue,
                },
            };
            let triggers = read(&texts, file.stages[at].from.image.span)?;
            self.0.insert(at, triggers.len());
            if !triggers.is_empty() {
                any = true;
                file.to_mut().stages[at].instructions.splice(0..0, triggers);
            }
        }
        Ok(any)
    }
}

fn read(texts: &[String], place: Span) -> Result<Vec<Instruction>, Vec<Diagnostic>> {
    let (mut triggers, mut wrong) = (Vec::new(), Vec::new());
    for text in texts {
        match parse_trigger(text, place) {
            Ok(trigger) => triggers.push(trigger),
            Err(said) => wrong.extend(said),
        }
    }
    if wrong.is_empty() { Ok(triggers) } else { Err(wrong) }
}
