//! Makes system calls as a table says, and tells how each ended: for tests of what a
//! build step sees of the kernel. `testdata/exact/calls/README.md` says what a table
//! is.
//!
//! `calls TABLE FOLDER` runs each case of a table in a folder of its own below
//! `FOLDER`; `calls --one LINE COMMAND…` is what a case executes of itself.

#![expect(clippy::print_stderr, reason = "a program of its own")]

mod kernel;
mod run;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    // The kernel puts a script's name behind its interpreter's argument.
    if args.first().is_some_and(|arg| arg == "--script") {
        args.drain(..2);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["--one", line, command @ ..] => run::one(line, command),
        [table, folder] => std::fs::read_to_string(table)
            .map_err(|error| format!("{table}: {error}"))
            .and_then(|text| run::table(&text, folder)),
        _ => Err("TABLE FOLDER".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calls: {error}");
            ExitCode::FAILURE
        }
    }
}
