//! Applications at work on several replicas: programs in Python, over one channel with the documented service configuration.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::prepared;
use crate::replica::{EMAIL, PASSWORD, Replica};
use crate::support::program::{Program, clean};

pub struct Load {
    program: Program,
}

impl Load {
    /// What `rolling.py` does: as much as there are answers, of calls that every version has.
    pub fn rolling(replicas: &[Replica]) -> Self {
        Self::start("rolling.py", replicas, &[])
    }

    /// What `soak.py` does: so many evaluations a second, and a bit of everything beside.
    pub fn mixed(replicas: &[Replica], evaluations_a_second: u32) -> Self {
        let rate = evaluations_a_second.to_string();
        Self::start("soak.py", replicas, &[("HALYARD_RATE", &rate)])
    }

    /// Returns once everybody is at work.
    fn start(script: &str, replicas: &[Replica], variables: &[(&str, &str)]) -> Self {
        let python = "target/clients/python/bin/python";
        prepared(python);
        let addresses: Vec<_> = replicas.iter().map(|replica| replica.address.as_str()).collect();
        let mut command = clean(Command::new(python));
        command.arg(Path::new("tests/clients/python").join(script));
        command.envs([
            ("HALYARD_ENDPOINTS", addresses.join(",").as_str()),
            ("HALYARD_EMAIL", EMAIL),
            ("HALYARD_PASSWORD", PASSWORD),
        ]);
        command.envs(variables.iter().copied());
        let mut program = Program::start(command);
        program.says("under load");
        Self { program }
    }

    /// Ends it, and returns the line that it says then, which holds these words, and what it has to complain of.
    pub fn ends(mut self, words: &str) -> (String, Result<(), String>) {
        self.program.signal(Signal::TERM);
        let said = self.program.says(words);
        let (status, wrong) = self.program.ends();
        (said, if status.success() { Ok(()) } else { Err(wrong) })
    }

    /// Ends `rolling.py`: nothing went wrong, and of everything there was more than this.
    pub fn ends_well(self, least: u64) {
        let (counted, outcome) = self.ends("evaluations=");
        outcome.unwrap_or_else(|wrong| panic!("{counted}\n{wrong}"));
        for word in counted.split_whitespace() {
            let (what, count) = word.split_once('=').unwrap();
            // A load that did nothing shows nothing.
            assert!(count.parse::<u64>().unwrap() > least, "{what} in {counted}");
        }
        println!("{counted}");
    }
}
