//! Which statements an application may not send, judged by their first words.
//!
//! A guard against accidents, not against malice: what a function does inside cannot be seen from here.

/// COPY speaks a protocol of its own, in the middle of which a given-up statement would leave the connection.
const NO_COPY: &str =
    "COPY is not spoken here: read with a query, and write many rows with INSERT .. SELECT from unnest($1, $2)";

/// The reason why a load may not run this statement.
pub(super) fn refuse_read(sql: &str) -> Option<String> {
    let [first, ..] = first_words(sql);
    if first == "COPY" {
        return Some(NO_COPY.to_owned());
    }
    let refused = matches!(
        first.as_str(),
        "ABORT"
            | "BEGIN"
            | "CALL"
            | "CLOSE"
            | "COMMIT"
            | "DEALLOCATE"
            | "DECLARE"
            | "DISCARD"
            | "DO"
            | "END"
            | "EXECUTE"
            | "FETCH"
            | "LISTEN"
            | "LOAD"
            | "LOCK"
            | "MOVE"
            | "NOTIFY"
            | "PREPARE"
            | "RELEASE"
            | "RESET"
            | "ROLLBACK"
            | "SAVEPOINT"
            | "SET"
            | "START"
            | "UNLISTEN"
    );
    refused.then(|| {
        format!(
            "{first} is not allowed in a load: it would change the transaction or the session of a shared connection"
        )
    })
}

/// The reason why a transaction's connection may not run this statement.
pub(super) fn refuse_write(sql: &str) -> Option<String> {
    let [first, second, third] = first_words(sql);
    let remedy = match first.as_str() {
        "BEGIN" | "START" => "the transaction is open already; use a savepoint to nest",
        "COMMIT" | "END" | "PREPARE" => "only the transaction's own commit knows what was retracted",
        "ROLLBACK" if second == "TO" || third == "TO" => return None,
        "ABORT" | "ROLLBACK" => "drop the transaction to roll it back; ROLLBACK TO a savepoint is allowed",
        "SET" if matches!(second.as_str(), "LOCAL" | "CONSTRAINTS" | "TRANSACTION") => return None,
        "SET" | "RESET" => "the setting would outlive the transaction; use SET LOCAL",
        "COPY" => return Some(NO_COPY.to_owned()),
        "DEALLOCATE" | "DISCARD" | "EXECUTE" | "LISTEN" | "LOAD" | "UNLISTEN" => {
            "it would change the session of a shared connection"
        }
        _ => return None,
    };
    Some(format!("{first} is not allowed in a transaction: {remedy}"))
}

/// The first three words in capitals, empty where there are fewer. Blanks, comments and empty statements are skipped.
fn first_words(sql: &str) -> [String; 3] {
    let mut rest = sql;
    std::array::from_fn(|_| {
        rest = skip_blank(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        word.to_ascii_uppercase()
    })
}

fn skip_blank(mut sql: &str) -> &str {
    loop {
        sql = sql.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        if let Some(comment) = sql.strip_prefix("--") {
            sql = comment.find(['\n', '\r']).and_then(|end| comment.get(end..)).unwrap_or_default();
        } else if let Some(comment) = sql.strip_prefix("/*") {
            sql = after_comment(comment);
        } else {
            return sql;
        }
    }
}

/// What follows a block comment; these nest in PostgreSQL.
fn after_comment(mut inside: &str) -> &str {
    let mut depth = 1_u32;
    while depth > 0 {
        let Some(mark) = inside.find(['*', '/']) else { return "" };
        inside = inside.get(mark..).unwrap_or_default();
        let step = match inside.get(..2) {
            Some("*/") => {
                depth -= 1;
                2
            }
            Some("/*") => {
                depth = depth.saturating_add(1);
                2
            }
            _ => 1,
        };
        inside = inside.get(step..).unwrap_or_default();
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_that_would_leave_something_behind_are_refused() {
        for sql in [
            "begin",
            " COMMIT ",
            ";;commit",
            "-- a note\nset x = 1",
            "/* a /* nested */ note */ rollback",
            "START TRANSACTION",
            "prepare p as select 1",
            "savepoint s",
            "/**/end",
            "copy t to stdout",
        ] {
            assert!(refuse_read(sql).is_some(), "{sql:?} was allowed");
        }
        for sql in [
            "select 1",
            "with x as (select 1) table x",
            "(select 1)",
            "values (1)",
            "",
            "/* begin",
            "settle()",
            "-- begin",
        ] {
            assert!(refuse_read(sql).is_none(), "{sql:?} was refused");
        }
    }

    #[test]
    fn a_transaction_keeps_its_savepoints() {
        for sql in [
            "savepoint s",
            "rollback to s",
            "ROLLBACK WORK TO SAVEPOINT s",
            "release s",
            "set local x = 1",
            "update t set v = 1",
        ] {
            assert!(refuse_write(sql).is_none(), "{sql:?} was refused");
        }
        for sql in [
            "commit",
            "rollback",
            "ROLLBACK WORK",
            "prepare transaction 'x'",
            "set x = 1",
            "begin",
            "abort",
            "copy t from stdin",
        ] {
            assert!(refuse_write(sql).is_some(), "{sql:?} was allowed");
        }
    }
}
