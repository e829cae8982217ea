//! The Halyard program.

use std::{env, process::ExitCode};

use halyard::embedded;

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == embedded::SUPERVISED_EXEC) {
        return embedded::run_supervised(arguments);
    }
    ExitCode::from(64)
}
