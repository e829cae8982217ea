//! The subcommands, each declared once: its settings and who reads them.

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};

use super::bench::settings;
use super::reader::{Noted, Reader};
use super::setting::Setting;
use super::{
    Client, Command, LOG, LOG_FORMAT, admin, audit, bench, client, connections, database, print, service, sidecar,
    stopping, trust, tuning,
};

/// One subcommand.
pub(super) struct Subcommand {
    /// Its name; of one in a group, behind the group's: `audit verify`.
    name: &'static str,
    about: &'static str,
    settings: &'static [&'static [Setting]],
    positional: fn() -> Option<Arg>,
    /// What it logs unless told otherwise.
    pub log: Setting,
    /// Reads its configuration.
    pub read: fn(&mut Reader<'_>) -> Result<Command, Noted>,
}

/// What commands log that speak for themselves.
const CLIENT_LOG: Setting = LOG.default("warn");
/// What is worth reading while trying things out: not one line per request, the making of the demo project among them.
const DEV_LOG: Setting = LOG.default("warn,halyard=info,halyard::rpc::front=warn");

const ALL: [Subcommand; 15] = [
    Subcommand {
        name: "serve",
        about: "Serve, with your PostgreSQL or a private one",
        settings: &[
            database::DATABASE,
            service::PEOPLE,
            &[service::SERVE_LISTEN],
            service::SERVICE,
            stopping::SERVE,
            service::BOUNDS,
            connections::CONNECTIONS,
            tuning::SERVE,
            &[print::PRINT],
        ],
        positional: || None,
        log: LOG,
        read: |reader| service::serve(reader).map(|serve| Command::Serve(Box::new(serve))),
    },
    Subcommand {
        name: "dev",
        about: "Serve on your own machine, with a private PostgreSQL and a demo project",
        settings: &[
            database::PRIVATE,
            service::PEOPLE,
            &[service::DEV_LISTEN],
            service::SERVICE,
            stopping::DEV,
            service::BOUNDS,
            connections::CONNECTIONS,
            tuning::SERVE,
            &[print::PRINT],
        ],
        positional: || None,
        log: DEV_LOG,
        read: |reader| service::dev(reader).map(|dev| Command::Dev(Box::new(dev))),
    },
    Subcommand {
        name: "sidecar",
        about: "Serve what another server holds, beside an application, and go on when that server is away",
        settings: &[
            sidecar::SIDECAR,
            stopping::SERVE,
            service::BOUNDS,
            connections::CONNECTIONS,
            trust::TRUST,
            tuning::SIDECAR,
            &[print::PRINT],
        ],
        positional: || None,
        log: LOG,
        read: |reader| sidecar::sidecar(reader).map(|sidecar| Command::Sidecar(Box::new(sidecar))),
    },
    Subcommand {
        name: "migrate",
        about: "Bring the database's schema up to date",
        settings: &[database::DATABASE],
        positional: || None,
        log: LOG,
        read: |reader| admin::migrate(reader).map(Command::Migrate),
    },
    Subcommand {
        name: "create-admin",
        about: "Create the first administrator",
        settings: &[database::DATABASE, admin::CREATE_ADMIN],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| admin::create_admin(reader).map(Command::CreateAdmin),
    },
    Subcommand {
        name: "audit verify",
        about: "Verify that nothing of the audit log was changed, in the database or in an export",
        settings: &[audit::VERIFY, database::DATABASE],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| audit::verify(reader).map(Command::Audit),
    },
    Subcommand {
        name: "audit export",
        about: "Print a chain of the audit log, one JSON object with its hash a line",
        settings: &[audit::EXPORT, database::DATABASE],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| audit::export(reader).map(Command::Audit),
    },
    Subcommand {
        name: "health",
        about: "Ask a server how it is",
        settings: &[client::HEALTH, trust::TRUST],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| client::health(reader).map(|health| Command::Client(Client::Health(health))),
    },
    Subcommand {
        name: "evaluate",
        about: "Ask which variant somebody is served",
        settings: &[client::EVALUATE, trust::TRUST],
        positional: || {
            let flag = Arg::new(client::FLAG).value_parser(ValueParser::string());
            Some(flag.help("The flag; left out with --all"))
        },
        log: CLIENT_LOG,
        read: |reader| client::evaluate(reader).map(|evaluate| Command::Client(Client::Evaluate(evaluate))),
    },
    Subcommand {
        name: "watch",
        about: "Print every change of an environment as it happens",
        settings: &[client::WATCH, trust::TRUST],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| client::watch(reader).map(|watch| Command::Client(Client::Watch(watch))),
    },
    Subcommand {
        name: "toggle",
        about: "Turn flags of an environment on or off, all or none of them",
        settings: &[client::TOGGLE, trust::TRUST],
        positional: || {
            let toggles = Arg::new(client::TOGGLES).value_parser(ValueParser::string());
            Some(
                toggles
                    .num_args(0..)
                    .value_names(["FLAG", "on|off"])
                    .help("Flags, each with what to do: new-checkout on beta off"),
            )
        },
        log: CLIENT_LOG,
        read: |reader| client::toggle(reader).map(|toggle| Command::Client(Client::Toggle(toggle))),
    },
    Subcommand {
        name: "bench evaluate",
        about: "Evaluate flags at a rate, or so many at a time",
        settings: &[
            settings::PACE,
            settings::COMMON,
            trust::TRUST,
            settings::EVALUATE,
            settings::TURNS,
            settings::TURNS_KEY,
        ],
        positional: || Some(bench_flags().help("The flags to ask for in turn; left out with --all")),
        log: CLIENT_LOG,
        read: |reader| bench::evaluate(reader).map(benched),
    },
    Subcommand {
        name: "bench watch",
        about: "Open streams of changes, and measure how long changes take to reach them all",
        settings: &[
            settings::WATCH,
            settings::COMMON,
            trust::TRUST,
            settings::WATCH_KEY,
            settings::BESIDE,
            settings::WRITE,
        ],
        positional: || None,
        log: CLIENT_LOG,
        read: |reader| bench::watch(reader).map(benched),
    },
    Subcommand {
        name: "bench write",
        about: "Turn flags on and off at a rate, or so many at a time, and leave them as they were",
        settings: &[
            settings::PACE,
            settings::COMMON,
            trust::TRUST,
            settings::WRITE,
            settings::TURNS,
        ],
        positional: || Some(bench_flags().help("The flags to turn on and off in turn")),
        log: CLIENT_LOG,
        read: |reader| bench::write(reader).map(benched),
    },
    Subcommand {
        name: "bench mixed",
        about: "Evaluate, watch and write at the same time",
        settings: &[
            settings::PACE,
            settings::COMMON,
            trust::TRUST,
            settings::EVALUATE,
            settings::WATCH,
            settings::BESIDE,
            settings::WRITE,
        ],
        positional: || Some(bench_flags().help("The flags to ask for in turn; left out with --all")),
        log: CLIENT_LOG,
        read: |reader| bench::mixed(reader).map(benched),
    },
];

fn bench_flags() -> Arg {
    Arg::new(settings::BENCH_FLAGS)
        .value_parser(ValueParser::string())
        .num_args(0..)
        .value_name("FLAG")
}

fn benched(bench: super::Bench) -> Command {
    Command::Client(Client::Bench(Box::new(bench)))
}

/// Subcommands that belong together, and what they are about.
const GROUPS: [(&str, &str); 2] = [
    ("audit", "Verify and export the audit log"),
    ("bench", "Put load on a server, and measure how it does"),
];

impl Subcommand {
    /// The subcommand that was given, with its arguments.
    pub fn of(matches: &ArgMatches) -> Option<(&'static Self, &ArgMatches)> {
        let (mut name, mut matches) = matches.subcommand()?;
        let whole;
        if let Some((member, its)) = matches.subcommand() {
            whole = format!("{name} {member}");
            (name, matches) = (&whole, its);
        }
        let subcommand = ALL.iter().find(|subcommand| subcommand.name == name)?;
        Some((subcommand, matches))
    }

    /// The group that it is in, and its name there.
    fn in_group(&self) -> Option<(&'static str, &'static str)> {
        self.name.split_once(' ')
    }

    /// Every setting, in the order of the help.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        let settings = self.settings.iter().copied().flatten();
        settings.chain([&self.log, &LOG_FORMAT])
    }

    /// How it is called, and everything that it can be told.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static Self)> {
        ALL.iter().map(|subcommand| (subcommand.name, subcommand))
    }

    fn command_line(&self) -> clap::Command {
        let arguments = self.settings().flat_map(Setting::arguments);
        clap::Command::new(self.in_group().map_or(self.name, |(_, name)| name))
            .about(self.about)
            .args((self.positional)())
            .args(arguments)
    }
}

/// A group with everything in it.
fn group((group, about): (&'static str, &'static str)) -> clap::Command {
    let members = ALL
        .iter()
        .filter(|subcommand| subcommand.in_group().is_some_and(|(of, _)| of == group));
    clap::Command::new(group)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(members.map(Subcommand::command_line))
}

/// What clap splits the arguments by.
pub(super) fn command_line() -> clap::Command {
    let alone = ALL.iter().filter(|subcommand| subcommand.in_group().is_none());
    clap::Command::new("halyard")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Feature flags: stored in PostgreSQL, evaluated from memory, pushed to every client")
        .after_help(
            "Exit codes: 0 done; 64 the arguments, variables or files are wrong; 69 the server cannot be reached or is not \
             ready; 77 the credential is not accepted or not sufficient; 1 anything else.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(alone.map(Subcommand::command_line))
        .subcommands(GROUPS.map(group))
}
