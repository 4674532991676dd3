#[derive(Debug, clap::Args)]
pub struct Args {}
pub fn run(_: Args, _: &super::invocation::Invocation) -> Result<(), super::report::CliError> {
    Ok(())
}
