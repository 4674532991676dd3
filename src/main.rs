use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = kiln::sandbox::enter(&[]) {
        return code;
    }
    ExitCode::SUCCESS
}
