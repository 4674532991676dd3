//! `--offline` and `KILN_OFFLINE`: said to the library before anything is done, and
//! what is refused at once because it is nothing without a network.
//!
//! A command that only may need the network is let by. What it then lacks it says itself:
//! nothing goes through `net` any more.

use super::report::CliError;
use super::run::NetworkKind;
use super::value::boolean;
use super::{Command, manifest};
use crate::copy::Place;
use crate::env;
use crate::net::{self, Word};

/// Shuts the door to the network if that is asked for, and refuses a command that needs it.
///
/// # Errors
/// If it does, or if the variable's value is none.
pub(super) fn settle(flag: bool, command: &Command) -> Result<(), CliError> {
    // One that is no text is no word for it, and not passed over.
    let set = env::get(env::OFFLINE).map(|value| value.to_string_lossy().into_owned());
    let by = match (flag, set) {
        (true, _) => Some(Word::Flag),
        (false, None) => None,
        (false, Some(text)) => boolean(env::OFFLINE, &text)
            .map_err(|error| CliError::usage(error.to_string()))?
            .then_some(Word::Variable),
    };
    let Some(by) = by else { return Ok(()) };
    net::shut(by);
    match need(command) {
        Some(Need { what, instead }) => refused(&what, instead),
        None => Ok(()),
    }
}

/// The error of what needs the network.
fn refused(what: &str, instead: &str) -> Result<(), CliError> {
    net::pass(what).map_err(|offline| CliError::usage(offline.to_string()).hint(instead))
}

/// What of a command needs the network in any case.
struct Need {
    what: String,
    instead: &'static str,
}

const TO_LOAD: &str = "`kiln load` takes images from a file, which `kiln save` writes where there \
                       is a network";
const TO_SAVE: &str = "`kiln save` writes images to a file, which `kiln load` takes elsewhere";
const NO_OTHER: &str = "leave --offline and KILN_OFFLINE out; a network without a way out is \
                        enough for it";

/// None for a command that can do without a network.
fn need(command: &Command) -> Option<Need> {
    let always = |what: &str, instead| Some(Need { what: what.to_owned(), instead });
    match command {
        // A registry's images are refused where they are asked for.
        Command::Attest(_)
        | Command::Sign(_)
        | Command::Verify(_)
        // It names all that is not at hand, with what the flags ask for.
        | Command::Build(_)
        | Command::Bundle(_)
        | Command::Check(_)
        | Command::Diff(_)
        | Command::Doctor(_)
        | Command::Du(_)
        | Command::GenerateKeyPair(_)
        | Command::Images(_)
        | Command::Inspect(_)
        | Command::Kill(_)
        | Command::Load(_)
        | Command::Logout(_)
        | Command::Logs(_)
        | Command::Prune(_)
        | Command::Ps(_)
        | Command::Rmi(_)
        | Command::Save(_)
        | Command::Sbom(_)
        | Command::SignBlob(_)
        | Command::Stop(_)
        | Command::Tag(_)
        | Command::Update(_)
        | Command::VerifyBlob(_) => None,
        Command::Copy(args) => {
            let far = |place: &Place| place.registry().is_some();
            match (far(&args.from), far(&args.to)) {
                (true, _) => remote(&args.from, "name a file or layout: oci-archive:FILE, oci:DIR"),
                (_, true) => remote(&args.to, "name a file or layout: oci-archive:FILE, oci:DIR"),
                (false, false) => None,
            }
        }
        Command::Deploy(_) => always("a rollout", NO_OTHER),
        // What it has is asked of nobody.
        Command::Lock(args) => {
            let instead = "without a network, things are what they were: `kiln build --locked`";
            match (&args.update, args.check) {
                (Some(_), _) => always("lock --update", instead),
                (None, true) => always("lock --check", instead),
                (None, false) => None,
            }
        }
        Command::Login(_) => always("a login", "without a network no registry is asked"),
        Command::Manifest(args) => {
            let explicit = |place: &&Place| matches!(place, Place::Registry { explicit: true, .. });
            let place = match &args.command {
                // A name alone is the store's, if it has one.
                manifest::Command::Create(args) => args.images.iter().find(explicit),
                manifest::Command::Inspect(args) => {
                    Some(&args.name).filter(|place| place.registry().is_some())
                }
            };
            place.and_then(|place| remote(place, "store:NAME is an image of the store"))
        }
        Command::Pull(_) => always("a pull", TO_LOAD),
        Command::Push(_) => always("a push", TO_SAVE),
        Command::Rm(args) => args.remote.then(|| Need {
            what: "rm --remote".into(),
            instead: "`kiln rmi` takes names out of the store",
        }),
        Command::Run(args) => {
            let instead = "leave it out: without a network a container has loopback alone";
            match (args.publish.first(), args.network) {
                (Some(port), _) => {
                    Some(Need { what: format!("publishing port {}", port.0), instead })
                }
                (None, Some(NetworkKind::Host)) => always("--network host", instead),
                (None, Some(NetworkKind::None | NetworkKind::Private) | None) => None,
            }
        }
        Command::Serve(_) => always("a server", NO_OTHER),
        Command::Tags(_) => always("a registry's list of tags", "`kiln images` lists the store's"),
        Command::Up(_) => always("a rollout", "`kiln build` alone works offline"),
    }
}

fn remote(place: &Place, instead: &'static str) -> Option<Need> {
    Some(Need { what: format!("`{place}`, in a registry,"), instead })
}
