//! What connection strings mean, what is refused, and that nothing is ever taken for less than was written.

use std::time::Duration;

use proptest::prelude::*;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Mode;
use super::*;

fn refused(text: &str) -> Malformed {
    parse(text).expect_err(text)
}

/// What the driver is told of TLS.
fn mode(text: &str) -> SslMode {
    parse(text)
        .unwrap_or_else(|wrong| panic!("{text}: {wrong}"))
        .config()
        .get_ssl_mode()
}

/// A file with one authority.
fn authority() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let made = rcgen::generate_simple_self_signed(["authority".to_owned()]).unwrap();
    std::fs::write(&path, made.cert.pem()).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn each_mode_is_read_in_both_forms() {
    let (_folder, ca) = authority();
    for (written, expected) in [
        ("disable", SslMode::Disable),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
    ] {
        assert_eq!(mode(&format!("postgres://u:p@h/d?sslmode={written}")), expected);
        assert_eq!(mode(&format!("host=h sslmode={written} user=u")), expected);
        assert_eq!(mode(&format!("host = h sslmode = '{written}' user=u")), expected);
    }
    for written in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgres://u:p@h/d?sslmode={written}&sslrootcert={ca}");
        let pairs = format!("sslrootcert='{ca}' sslmode={written} host=h");
        assert_eq!((mode(&url), mode(&pairs)), (SslMode::Require, SslMode::Require));
    }
    assert_eq!(mode("postgres://u@h/d"), SslMode::Prefer);
    assert_eq!(mode("postgres://u@h/d?ssl=true"), SslMode::Require);
}

/// Each of these asks for TLS, or means to, and some reader of connection strings would have gone without.
#[test]
fn no_way_of_writing_weakens_what_is_asked_for() {
    for text in [
        "host=h sslmode='require'",
        "host=h sslmode = require",
        "host=h sslmode= 'require' user=u",
        r"host=h sslmode=req\uire",
        "host=h\tsslmode=require\n",
        "sslmode=require host='h' password='it''s'  ",
        "postgres://u@h/d?ssl%6Dode=require",
        "postgres://u@h/d?sslmode=requir%65",
        "postgres://u@h/d?%73slmode=%72equire&application_name=a",
        "postgresql://u:p%3Fsslmode%3Ddisable@h/d?sslmode=require",
        "postgres://u@h?sslmode=require",
        "postgres://u@h/?sslmode=require",
    ] {
        if let Ok(target) = parse(text) {
            assert_eq!(target.config().get_ssl_mode(), SslMode::Require, "{text}");
        }
    }
    for (text, expected) in [
        ("postgres://u@h/d?SSLMODE=require", Malformed::Option),
        ("postgres://u@h/d?sslmode=Require", Malformed::Mode),
        ("postgres://u@h/d?sslmode=", Malformed::Mode),
        ("postgres://u@h/d?sslmode='require'", Malformed::Mode),
        ("postgres://u@h/d?sslmode=require%20", Malformed::Mode),
        ("postgres://u@h/d?sslmode=allow", Malformed::Allow),
        ("postgres://u@h/d?ssl=false", Malformed::Option),
        ("postgres://u@h/d?sslmode=require&sslmode=disable", Malformed::Repeated),
        ("postgres://u@h/d?ssl=true&sslmode=disable", Malformed::Repeated),
        ("host=h sslmode=require sslmode=disable", Malformed::Repeated),
        (
            "postgres://u:p?sslmode=disable@h/d?sslmode=require",
            Malformed::Unencoded,
        ),
        ("postgres://u:p/x@h/d?sslmode=require", Malformed::Unencoded),
        ("postgres://u:p@x@h/d?sslmode=require", Malformed::Unencoded),
        ("postgres://u:p#@h/d?sslmode=require", Malformed::Unencoded),
        ("postgres://u@h/d #?sslmode=require", Malformed::Unencoded),
        (
            "postgres://u@h/d?connect_timeout=1?sslmode=require",
            Malformed::Unencoded,
        ),
        (
            "postgres://u@h/d?application_name=a=sslmode=require",
            Malformed::Unencoded,
        ),
        (
            "postgres://u@h/d?application_name=a;sslmode%3Drequire",
            Malformed::Swallowed,
        ),
        ("postgres://u@h/d%3Fsslmode=require", Malformed::Swallowed),
        ("host=h,sslmode=require", Malformed::Swallowed),
        ("host=h password=a;SSLMODE=require", Malformed::Swallowed),
        ("host=h password='a sslmode=require'", Malformed::Swallowed),
        ("host=h sslmode=require;user=u", Malformed::Mode),
        ("host=h sslmode='require", Malformed::Syntax),
        ("host=h sslmode='require'user=u", Malformed::Syntax),
        ("host=h password= sslmode=require", Malformed::Swallowed),
        ("host=h sslmode require", Malformed::Syntax),
        ("host=h\u{a0}sslmode=require", Malformed::Syntax),
        ("host=h 'sslmode'=require", Malformed::Option),
        ("host=h sslmode=require\\", Malformed::Syntax),
        ("POSTGRES://u@h/d?sslmode=require", Malformed::Scheme),
        ("host=h sslnegotiation=direct", Malformed::Negotiation),
        ("host=h sslnegotiation=plain sslmode=require", Malformed::Negotiation),
        ("host=h gssencmode=require", Malformed::Option),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn whom_to_trust_must_be_said_and_be_of_use() {
    let (folder, ca) = authority();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let empty = empty.to_str().unwrap();
    for (options, expected) in [
        ("sslmode=verify-full".to_owned(), Malformed::NoAuthority),
        ("sslmode=verify-ca".to_owned(), Malformed::NoAuthority),
        (format!("sslrootcert={ca}"), Malformed::UnusedAuthority),
        (format!("sslrootcert={ca} sslmode=prefer"), Malformed::UnusedAuthority),
        (format!("sslrootcert={ca} sslmode=disable"), Malformed::UnusedAuthority),
        ("sslrootcert=system sslmode=verify-ca".to_owned(), Malformed::WeakSystem),
        ("sslrootcert=system sslmode=prefer".to_owned(), Malformed::WeakSystem),
        (
            "sslrootcert=/nonexistent sslmode=verify-full".to_owned(),
            Malformed::Authorities,
        ),
        (
            format!("sslrootcert={empty} sslmode=verify-full"),
            Malformed::Authorities,
        ),
        ("sslmode=require sslcert=/nonexistent".to_owned(), Malformed::Identity),
        (
            "sslmode=require sslcert=/nonexistent sslkey=/nonexistent".to_owned(),
            Malformed::Identity,
        ),
        (format!("sslmode=disable sslcert={ca} sslkey={ca}"), Malformed::Identity),
    ] {
        assert_eq!(refused(&format!("host=h {options}")), expected, "{options}");
    }
}

#[test]
fn on_a_socket_there_is_no_tls_whatever_is_asked_for() {
    for text in [
        "host=/run/postgresql sslmode=require",
        "postgresql:///d?host=/run/postgresql&sslmode=require",
        "postgresql://%2Frun%2Fpostgresql/d?sslmode=require",
    ] {
        assert_eq!(mode(text), SslMode::Disable, "{text}");
    }
    assert_eq!(refused("host=/run,h sslmode=require"), Malformed::Mixed);
    assert_eq!(mode("host=/run,h"), SslMode::Prefer);
}

#[test]
fn several_hosts_are_read() {
    let target = parse("postgres://u:p@one:1,[::1],three:3/d?target_session_attrs=read-write&sslmode=require").unwrap();
    let names = ["one", "::1", "three"].map(|name| Host::Tcp(name.to_owned()));
    assert_eq!(target.config().get_hosts(), names);
    assert_eq!(target.config().get_ports(), [1, 5432, 3]);
    let pairs = parse("host=one,two port=7 user=u").unwrap();
    assert_eq!(
        (pairs.config().get_hosts().len(), pairs.config().get_ports()),
        (2, &[7][..])
    );
    assert_eq!(
        parse("hostaddr=10.0.0.1").unwrap().config().get_hosts(),
        [Host::Tcp("10.0.0.1".to_owned())]
    );
    for (text, expected) in [
        ("host=a,b port=1,2,3", Malformed::Counts),
        ("host=a,b hostaddr=10.0.0.1", Malformed::Counts),
        ("host=/run hostaddr=10.0.0.1", Malformed::Host),
        ("postgres://a,,b/d", Malformed::Host),
        ("postgres://:5432/d", Malformed::Host),
        ("postgres://u@h/d?host=elsewhere", Malformed::Repeated),
        ("postgres://u@h:1/d?port=2", Malformed::Repeated),
        ("host='a b'", Malformed::Host),
        ("user=u dbname=d", Malformed::Host),
        ("", Malformed::Host),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_without_any_part_of_it() {
    for text in [
        "postgres://u:hunter2@h:port/d",
        "hunter2",
        "hunter2://h",
        "postgres://u:hunter2@h/d?nonsense=1",
        "postgres://u:p/hunter2@h/d",
        "postgres://u@h/d?sslmode=hunter2",
        "postgres://u@h/d?sslmode=verify-full&sslrootcert=/hunter2",
        "host=h hunter2=x",
        "host=h connect_timeout=hunter2",
        "host='hunter2 '",
    ] {
        let said = refused(text).to_string();
        assert!(!said.contains("hunter2"), "{text}: {said}");
    }
    let target = parse("postgres://u:hunter2@h/d").unwrap();
    assert!(!format!("{target:?} {target}").contains("hunter2"));
}

#[test]
fn a_password_may_come_beside_the_string_and_not_contradict_it() {
    let password = |text: &str| {
        let target = parse(text).unwrap().with_password("hunter2")?;
        Ok(target.config().get_password().map(<[u8]>::to_vec))
    };
    for text in [
        "postgres://u@h/d",
        "postgres://u:@h/d",
        "host=h password=''",
        "postgres://u:hunter2@h/d",
    ] {
        assert_eq!(password(text), Ok(Some(b"hunter2".to_vec())), "{text}");
    }
    assert_eq!(password("postgres://u:hunter3@h/d"), Err(Malformed::Passwords));
}

#[test]
fn what_a_service_needs_is_added_and_what_was_said_is_kept() {
    let target = parse("postgres://u@h/d").unwrap();
    assert_eq!(target.config().get_application_name(), Some("halyard"));
    assert_eq!(target.config().get_connect_timeout(), Some(&PATIENCE));
    assert_eq!(
        keepalives(&target),
        (true, Duration::from_secs(10), Some(Duration::from_secs(5)), Some(3))
    );
    let target = parse("postgres://u@h/d?connect_timeout=7&application_name=x").unwrap();
    assert_eq!(target.config().get_application_name(), Some("x"));
    assert_eq!(target.config().get_connect_timeout(), Some(&Duration::from_secs(7)));
    // For ever is no answer.
    let target = parse("host=h connect_timeout=0").unwrap();
    assert_eq!(target.config().get_connect_timeout(), Some(&PATIENCE));
}

fn keepalives(target: &Target) -> (bool, Duration, Option<Duration>, Option<u32>) {
    let config = target.config();
    (
        config.get_keepalives(),
        config.get_keepalives_idle(),
        config.get_keepalives_interval(),
        config.get_keepalives_retries(),
    )
}

/// What the listener would rather have, too.
#[test]
fn what_was_said_of_connections_goes_before_what_we_would_rather_have() {
    let waits = Waits {
        connect: Duration::from_secs(1),
        unacknowledged: Duration::from_secs(2),
        idle: Duration::from_secs(3),
    };
    let said = "connect_timeout=70 tcp_user_timeout=71 keepalives=0 keepalives_idle=72 keepalives_interval=73 keepalives_retries=74";
    let target = parse(&format!("host=h {said}")).unwrap().unless_said(waits);
    let expected = (false, Duration::from_secs(72), Some(Duration::from_secs(73)), Some(74));
    assert_eq!(keepalives(&target), expected);
    assert_eq!(target.config().get_connect_timeout(), Some(&Duration::from_secs(70)));
    assert_eq!(target.config().get_tcp_user_timeout(), Some(&Duration::from_secs(71)));

    let target = parse("host=h").unwrap().unless_said(waits);
    assert_eq!(target.config().get_connect_timeout(), Some(&waits.connect));
    assert_eq!(target.config().get_tcp_user_timeout(), Some(&waits.unacknowledged));
    assert_eq!(target.config().get_keepalives_idle(), waits.idle);
}

/// What was written, by name, of a string that means the same to everybody.
fn written() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let text = "[ -~äß]{1,12}".prop_filter("not about TLS", |text| !text.to_lowercase().contains("ssl"));
    let modes = prop::sample::select(vec!["disable", "prefer", "require"]);
    (text.clone(), text.clone(), text, prop::option::of(modes)).prop_map(|(user, password, name, mode)| {
        let mut options = vec![
            ("user", user),
            ("password", password),
            ("application_name", name),
            ("host", "h".to_owned()),
        ];
        options.extend(mode.map(|mode| ("sslmode", mode.to_owned())));
        options
    })
}

fn check_meaning(text: &str, options: &[(&str, String)]) {
    let target = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
    let config = target.config();
    for (name, value) in options {
        let value = value.as_str();
        match *name {
            "user" => assert_eq!(config.get_user(), Some(value)),
            "password" => assert_eq!(config.get_password(), Some(value.as_bytes())),
            "application_name" => assert_eq!(config.get_application_name(), Some(value)),
            "sslmode" => assert_eq!(config.get_ssl_mode(), Mode::read(value).unwrap().for_driver()),
            _ => assert_eq!(config.get_hosts(), [Host::Tcp(value.to_owned())]),
        }
    }
}

fn encoded(text: &str, everything: bool) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        byte if byte.is_ascii_alphanumeric() && !everything => char::from(byte).to_string(),
        byte => format!("%{byte:02x}"),
    });
    bytes.collect()
}

proptest! {
    #[test]
    fn urls_mean_what_was_encoded(options in written(), everything: bool) {
        let value = |wanted: &str| options.iter().find(|(name, _)| *name == wanted).map(|(_, value)| encoded(value, everything));
        let query = options.iter().filter(|(name, _)| matches!(*name, "application_name" | "sslmode"));
        let query: Vec<_> = query
            .map(|(name, value)| format!("{}={}", if everything { encoded(name, true) } else { (*name).to_owned() }, encoded(value, everything)))
            .collect();
        let text = format!("postgres://{}:{}@h/d?{}", value("user").unwrap(), value("password").unwrap(), query.join("&"));
        check_meaning(&text, &options);
    }

    #[test]
    fn pairs_mean_what_was_quoted(options in written(), space in "[ \t\n]{0,2}") {
        let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
        let pairs: Vec<_> = options.iter().map(|(name, value)| format!("{name}{space}={space}'{}'", quoted(value))).collect();
        check_meaning(&pairs.join(" "), &options);
    }

    /// Whatever surrounds it, an option that asks for TLS is obeyed or the whole is refused.
    #[test]
    fn what_asks_for_tls_is_never_taken_for_less(
        before in r"[a-z='\\ ?&@:/,;%#+\t]{0,12}",
        equals in " {0,2}(=|%3D|%3d|==) {0,2}",
        quote in "'?",
        after in r"[a-z='\\ ?&@:/,;%#+\t]{0,12}",
        url: bool,
    ) {
        let text = if url {
            format!("postgres://u:{before}@h/d?{before}sslmode{equals}{quote}require{quote}{after}")
        } else {
            format!("host=h {before}sslmode{equals}{quote}require{quote}{after}")
        };
        if let Ok(target) = parse(&text) {
            prop_assert_eq!(target.config().get_ssl_mode(), SslMode::Require, "{}", text);
        }
    }

    /// The same of strings that are nothing in particular.
    #[test]
    fn nothing_is_ever_a_panic_or_a_lesser_mode(parts in prop::collection::vec(prop::sample::select(vec![
        "postgres://", "u", ":", "p", "@", "h", "/", "d", "?", "&", "sslmode", "=", "require", "'", "\\", " ", "host", "%3d", "%",
        "password", ",", "\u{a0}", "\0", "[", "]", "#", ";", "SSLMODE",
    ]), 0..16)) {
        let text: String = parts.concat();
        if let Ok(target) = parse(&text) {
            let asks = text.to_lowercase().contains("sslmode");
            let expected = if asks { SslMode::Require } else { SslMode::Prefer };
            // Nothing else can be written with these parts.
            prop_assert_eq!(target.config().get_ssl_mode(), expected, "{}", text);
        }
    }
}
