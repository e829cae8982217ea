//! `halyard bench`.

use super::*;

const KEY: (&str, &str) = ("HALYARD_KEY", "key");
const WRITER: [(&str, &str); 3] = [
    ("HALYARD_PROJECT", "shop"),
    ("HALYARD_ENVIRONMENT", "prod"),
    ("HALYARD_TOKEN", "token"),
];

fn bench(line: &str, variables: &[(&str, &str)]) -> Bench {
    let Command::Client(client) = read(line, variables).unwrap().command else {
        panic!("not a client: {line}");
    };
    let Client::Bench(bench) = client else {
        panic!("not bench: {line}");
    };
    *bench
}

fn everybody() -> Vec<(&'static str, &'static str)> {
    [KEY].into_iter().chain(WRITER).collect()
}

#[test]
fn a_rate_is_the_default() {
    let bench = bench("bench evaluate a b --attribute country=DE", &[KEY]);
    let evaluate = bench.evaluate.unwrap();
    assert_eq!(evaluate.load.pace, Pace::Rate(100.0));
    assert_eq!((evaluate.flags.len(), evaluate.units.get()), (2, 1_000));
    assert_eq!(evaluate.attributes["country"], "DE");
    assert_eq!(
        (bench.window.duration, bench.window.warm_up),
        (Duration::from_secs(10), Duration::from_secs(1))
    );
    assert!(bench.max_error_rate.abs() < 1e-9);
    assert!(bench.watch.is_none() && bench.write.is_none() && bench.compare.is_none());
}

#[test]
fn a_closed_loop_has_no_rate() {
    let line =
        "bench evaluate --all --concurrency 8 --connections 2 --duration 30s --warm-up 0s --max-error-rate 0.01 --json";
    let bench = bench(line, &[KEY]);
    let evaluate = bench.evaluate.unwrap();
    assert!(matches!(evaluate.load.pace, Pace::Concurrency(count) if count.get() == 8));
    assert_eq!((evaluate.flags.len(), evaluate.load.connections.get()), (0, 2));
    assert_eq!((bench.window.warm_up, bench.output), (Duration::ZERO, Output::Json));
    assert!((bench.max_error_rate - 0.01).abs() < 1e-9);
}

#[test]
fn the_other_server_may_have_another_key() {
    let line = "bench evaluate a --compare http://other:50051 --rounds 3";
    let compare = bench(line, &[KEY, ("HALYARD_COMPARE_KEY", "other")]).compare.unwrap();
    assert_eq!((compare.endpoint.host(), compare.rounds.get()), (Some("other"), 3));
    assert_eq!(compare.key.unwrap().expose(), "other");
}

#[test]
fn streams_may_be_watched_without_writing() {
    let watching = bench("bench watch --streams 7 --connections 3 --heartbeat 5s", &[KEY]);
    let watch = watching.watch.unwrap();
    assert_eq!(
        (watch.streams.get(), watch.connections.get(), watch.heartbeat.as_secs()),
        (7, 3, 5)
    );
    assert!(watching.write.is_none());
    let writing = bench(
        "bench watch --write-flag a --write-flag b --write-rate 0.5",
        &everybody(),
    );
    let write = writing.write.unwrap();
    assert_eq!((write.flags.len(), write.load.pace), (2, Pace::Rate(0.5)));
}

#[test]
fn mixed_load_is_of_all_three_kinds() {
    let bench = bench("bench mixed a --rate 50 --streams 5 --write-flag b", &everybody());
    assert_eq!(bench.evaluate.unwrap().load.pace, Pace::Rate(50.0));
    assert_eq!(bench.write.unwrap().load.pace, Pace::Rate(1.0));
    assert_eq!(bench.watch.unwrap().streams.get(), 5);
}

#[test]
fn wrong_load_is_refused_whole() {
    refused(
        "bench evaluate --rate 0 --concurrency 0 --connections x --duration 1ms --warm-up soon --units 0 --max-error-rate 2 \
         --max-in-flight 0 --compare ftp://h --rounds 0",
        &[],
        &[
            "--rate is not a number between",
            "--concurrency is not a whole number",
            "--connections is not a whole number",
            "--duration must lie between 10ms",
            "--warm-up is not a duration",
            "--units is not a whole number",
            "--max-error-rate is not a share",
            "--max-in-flight is not a whole number",
            "--compare is not an address",
            "--rounds is not a whole number",
            "--key is missing",
            "<flag> is missing; name flags or give --all",
        ],
    );
    for rate in ["NaN", "inf", "-1", "1e9"] {
        refused(
            &format!("bench evaluate a --rate={rate}"),
            &[KEY],
            &["--rate is not a number"],
        );
    }
    refused(
        "bench evaluate a --rate 1 --concurrency 1",
        &[KEY],
        &["--rate and --concurrency are both given"],
    );
    refused("bench evaluate a --all", &[KEY], &["<flag> and --all are both given"]);
    refused("bench evaluate a a", &[KEY], &["<flag> is given twice: a"]);
}

#[test]
fn writing_needs_a_flag_and_somebody_who_may() {
    refused("bench write", &WRITER, &["<flag> is missing"]);
    refused("bench mixed a", &everybody(), &["--write-flag is missing"]);
    refused(
        "bench watch --write-flag a",
        &[KEY],
        &[
            "--token and --email are both missing",
            "--project is missing",
            "--environment is missing",
        ],
    );
}

#[test]
fn a_login_must_outlast_what_is_written() {
    let login = [
        ("HALYARD_PROJECT", "shop"),
        ("HALYARD_ENVIRONMENT", "prod"),
        ("HALYARD_EMAIL", "ada@example.com"),
        ("HALYARD_PASSWORD", "hunter2"),
    ];
    refused(
        "bench write a --duration 15m",
        &login,
        &["--duration and --warm-up may take 17m 1s with what may be waited for"],
    );
    refused(
        "bench write a --duration 8m --compare http://other",
        &login,
        &["a login works for 14m; give a service token"],
    );
    // What is in flight when each of two hundred turns ends may take ten seconds.
    refused(
        "bench write a --duration 1m --compare http://other --rounds 100",
        &login,
        &["a login works for 14m"],
    );
    assert!(bench("bench write a --duration 8m", &login).write.is_some());
    assert!(bench("bench write a --duration 8h", &WRITER).write.is_some());
}
