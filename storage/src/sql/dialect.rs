//! Migrations in Postgres' words.

/// The schema as Postgres is given it. One place makes the columns of both databases alike: text compares byte by
/// byte, as SQLite compares it, whatever locale the database was created with; whole numbers are 64 bits wide.
///
/// Only words in capitals are types; a column may be called `text`.
pub(crate) fn for_postgres(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() * 2);
    let (mut rest, mut before) = (sql, "");
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '\'' | '"' => quoted(rest, first),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            c if c.is_alphabetic() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (word, after) = rest.split_at(length);
        out.push_str(match word {
            // A cast names a type that takes no collation.
            "TEXT" if before == "AS" => "TEXT",
            "TEXT" => "TEXT COLLATE \"C\"",
            "INTEGER" | "INT" => "BIGINT",
            "REAL" => "DOUBLE PRECISION",
            "BLOB" => "BYTEA",
            other => other,
        });
        if !word.trim().is_empty() {
            before = word;
        }
        rest = after;
    }
    out
}

/// The length of the quoted text at the start; a doubled quote begins another one right after it.
fn quoted(text: &str, quote: char) -> usize {
    text[1..].find(quote).map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::for_postgres;

    #[test]
    fn types_are_translated_and_nothing_else() {
        let sql = "CREATE TABLE a (x INTEGER NOT NULL, text TEXT DEFAULT 'TEXT it''s', \"TEXT\" BLOB, r REAL); -- TEXT\n\
                   CREATE INDEX i ON a (CAST(x AS TEXT), CONTEXT)";
        let expected = "CREATE TABLE a (x BIGINT NOT NULL, text TEXT COLLATE \"C\" DEFAULT 'TEXT it''s', \"TEXT\" BYTEA, \
                        r DOUBLE PRECISION); -- TEXT\n\
                        CREATE INDEX i ON a (CAST(x AS TEXT), CONTEXT)";
        assert_eq!(for_postgres(sql), expected);
    }
}
