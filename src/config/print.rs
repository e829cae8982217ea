//! `--print-config`: every setting of a command, what it comes to, and where that came from.

use super::reader::{Origin, Reader};
use super::setting::Setting;

pub(super) const PRINT: Setting = Setting::switch(
    "print-config",
    "Print every setting with its value and where that came from, secrets as ***, and exit; a wrong configuration is refused as ever",
)
.argument_only();

/// One line a setting, in the order of the help: `name = value  # where it came from`. To be called when nothing was wrong.
pub(super) fn text<'a>(reader: &mut Reader<'_>, settings: impl Iterator<Item = &'a Setting>) -> String {
    let settings = settings.filter(|setting| setting.name != PRINT.name);
    settings.map(|setting| line(reader, *setting)).collect()
}

fn line(reader: &mut Reader<'_>, setting: Setting) -> String {
    let origin = reader.origin(setting);
    let known = reader.comes_to(setting).map(str::to_owned);
    let (value, origin) = match origin {
        Some(Origin { value, place }) => {
            let shown = if setting.has_file() {
                "***".to_owned()
            } else {
                redacted(&setting.normal(value))
            };
            (Some(known.unwrap_or(shown)), place)
        }
        None => match known.or_else(|| setting.usual().map(str::to_owned)) {
            Some(value) => (Some(value), "default".to_owned()),
            None => (None, "not set".to_owned()),
        },
    };
    let value = value.map(|value| format!(" {}", quoted(value))).unwrap_or_default();
    format!("{} ={value}  # {origin}\n", setting.name)
}

/// In quotes if somebody could take it for more than a value.
fn quoted(value: String) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !"#\"'\\".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value;
    }
    format!("{value:?}")
}

/// A value without what stands between `://` and `@` of every address in it: names and passwords.
pub(super) fn redacted(value: &str) -> String {
    let mut shown = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after
            .find(|c: char| "/?#,".contains(c) || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        // A password with a slash in it ends later than the authority does.
        let (authority, behind) = match behind.split_once('@') {
            Some((_, host)) if !authority.contains('@') && !behind.contains("://") => ("***@", host),
            _ => (authority, behind),
        };
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["***@", host]),
            None => shown.push_str(authority),
        }
        rest = behind;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_a_password_in_an_address_is_not_shown() {
        for (value, shown) in [
            ("https://login.example.com/main", "https://login.example.com/main"),
            ("http://ada:hunter2@flags:50051", "http://***@flags:50051"),
            ("http://hunter2@flags", "http://***@flags"),
            ("http://ada:hunter2/x@flags", "http://***@flags"),
            ("http://a,http://ada:hunter2@b", "http://a,http://***@b"),
            ("ops=administrator", "ops=administrator"),
        ] {
            assert_eq!(redacted(value), shown);
        }
    }

    #[test]
    fn what_is_not_plain_is_in_quotes() {
        for (value, shown) in [
            ("30s", "30s"),
            ("1m 30s", "\"1m 30s\""),
            ("a#b", "\"a#b\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(value.to_owned()), shown);
        }
    }
}
