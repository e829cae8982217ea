//! Statements in traces: each by a name that is made of its text, which never holds a parameter.

use std::future::Future;

use tokio_postgres::Error;

use crate::trace::{self, Kind};

/// The longest table that a name tells.
const TABLE_BYTES: usize = 63;

/// Asks PostgreSQL something, as a part of what the current task traces.
pub(super) async fn statement<T>(sql: &str, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let Some(span) = trace::start(Kind::Client, || name(sql)) else {
        return work.await;
    };
    span.set("db.system.name", "postgresql");
    let answer = span.follow(work).await;
    if let Err(error) = &answer {
        span.fail();
        if let Some(state) = error.code() {
            span.set("db.response.status_code", state.code().to_owned());
        }
    }
    answer
}

/// What a statement does, and to which table.
fn name(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let writes = |at: &usize| {
        let word = |n: usize| words.get(n).copied().unwrap_or_default();
        match word(*at) {
            "insert" => word(at + 1) == "into",
            "delete" => word(at + 1) == "from",
            // Rows are also locked "for update" and "for no key update", and conflicts "do update".
            "update" => *at == 0 || !matches!(word(at - 1), "for" | "key" | "do"),
            _ => false,
        }
    };
    let first = words.first().copied().unwrap_or_default();
    let write = (0..words.len()).find(writes);
    let (verb, table) = if let Some(at) = write {
        let verb = words.get(at).copied().unwrap_or_default();
        let target = if verb == "update" { at + 1 } else { at + 2 };
        (verb, words.get(target))
    } else {
        let from = words.iter().position(|word| *word == "from");
        let verb = if first == "with" { "select" } else { first };
        (verb, from.and_then(|at| words.get(at + 1)))
    };
    let verb = verb.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let table = table.map(|table| table.trim_end_matches([')', ',', ';']));
    let table = table.filter(|table| is_name(table)).unwrap_or_default();
    format!("{verb} {table}").trim_end().to_owned()
}

fn is_name(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    plain && !text.is_empty() && text.len() <= TABLE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_verb_and_the_table_and_nothing_else() {
        for (sql, expected) in [
            ("\n    select id from projects where key = $1", "select projects"),
            ("select id from users where id = $1 for no key update", "select users"),
            ("insert into members (project_id) values ($1)", "insert members"),
            (
                "insert into a (b) values ($1) on conflict (b) do update set b = $1",
                "insert a",
            ),
            ("update projects set name = $2 where id = $1", "update projects"),
            ("delete from flags where key = 'alice'", "delete flags"),
            (
                "with next as (select 1) insert into changes select from next",
                "insert changes",
            ),
            ("with next as (select * from changes) select 1", "select changes"),
            ("select * from (select 'alice')", "select"),
            ("set local statement_timeout = '5min'", "set"),
            ("commit", "commit"),
            ("", ""),
        ] {
            assert_eq!(name(sql), expected, "{sql}");
        }
    }
}
