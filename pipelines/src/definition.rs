//! Reading definition files: YAML documents separated by `---`, each with a `kind`.
//!
//! Every error names line and column in the whole file. A tagged enum would lose them (the deserialiser buffers
//! the document first), so the kind is found by an untyped look and the rest is read straight into its type.

use domain::{
    Coded, ErrorCode,
    definition::{Definition, Endpoint, Entity, FeatureService, FeatureView, Pipeline, Source},
    error::nearest,
};
use serde::de::DeserializeOwned;
use serde_yaml_ng::Value;

/// Where a definition file is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct DefinitionError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    pub message: String,
}

impl Coded for DefinitionError {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }

    fn hint(&self) -> String {
        "mend the definition and apply the file again".into()
    }
}

const KINDS: [&str; 6] = ["Entity", "Source", "FeatureView", "FeatureService", "Pipeline", "Endpoint"];

/// Reads all documents of a file, in order. Documents that hold nothing but comments are passed over.
///
/// # Errors
/// The first mistake: malformed YAML, an unknown kind or key (naming the nearest known one), a missing key, or a
/// value that its type refuses.
pub fn parse(yaml: &str) -> Result<Vec<Definition>, DefinitionError> {
    documents(yaml).into_iter().filter_map(|document| document.read().transpose()).collect()
}

/// One document and where it begins.
struct Document<'a> {
    text: &'a str,
    /// Lines of the file before it.
    lines_before: usize,
}

/// Cuts the file at its `---` and `...` lines. Neither can stand at the start of a line for any other reason, not
/// even inside a block of text.
fn documents(yaml: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in yaml.split_inclusive('\n').enumerate() {
        let marker = line.trim_end();
        let divides = ["---", "..."].iter().any(|m| marker == *m || marker.starts_with(&format!("{m} ")));
        let end = offset;
        offset += line.len();
        if divides {
            documents.push(Document { text: &yaml[start..end], lines_before: start_line });
            (start, start_line) = (offset, number + 1);
        }
    }
    documents.push(Document { text: &yaml[start..], lines_before: start_line });
    documents
}

impl Document<'_> {
    fn read(&self) -> Result<Option<Definition>, DefinitionError> {
        let untyped: Value = serde_yaml_ng::from_str(self.text).map_err(|e| self.locate(&e))?;
        let mapping = match untyped {
            Value::Null => return Ok(None),
            Value::Mapping(mapping) => mapping,
            _ => return Err(self.at_content("a definition is a mapping of keys to values".into())),
        };
        let Some(kind) = mapping.get("kind") else {
            return Err(self.at_content(format!("a definition names its `kind`: one of {}", listed(&KINDS))));
        };
        let (text, at) = self.without_kind().map_or((None, None), |(text, at)| (Some(text), Some(at)));
        let Some(kind) = kind.as_str() else {
            return Err(self.at(at, format!("`kind` is a word: one of {}", listed(&KINDS))));
        };
        let whole = Body { document: self, text, mapping: &mapping };
        Ok(Some(match kind {
            "Entity" => Definition::Entity(whole.read::<Entity>()?),
            "Source" => Definition::Source(whole.read::<Source>()?),
            "FeatureView" => Definition::FeatureView(whole.read::<FeatureView>()?),
            "FeatureService" => Definition::FeatureService(whole.read::<FeatureService>()?),
            "Pipeline" => Definition::Pipeline(whole.read::<Pipeline>()?),
            "Endpoint" => Definition::Endpoint(whole.read::<Endpoint>()?),
            unknown => return Err(self.at(at, unknown_word("kind", unknown, &KINDS))),
        }))
    }

    /// The document with the top-level `kind` blanked out, so that positions stay, and where its value stands (line
    /// and column of the document, from 1). `None` for flow style (`{kind: .., ..}`).
    fn without_kind(&self) -> Option<(String, (usize, usize))> {
        let indent = self.text.lines().find(|l| is_content(l)).map(indent_of)?;
        let mut out = String::with_capacity(self.text.len());
        let mut found = None;
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            let key = line.trim_start();
            let rest =
                ["kind", "\"kind\"", "'kind'"].iter().find_map(|k| key.strip_prefix(k)?.trim_start().strip_prefix(':'));
            match rest {
                Some(rest) if found.is_none() && indent_of(line) == indent => {
                    let value = line.len() - rest.trim_start().len();
                    found = Some((number + 1, value + 1));
                    // Keeps the line break, so that the lines after it keep their numbers.
                    out.push_str(&line[line.trim_end().len()..]);
                }
                _ => out.push_str(line),
            }
        }
        found.map(|at| (out, at))
    }

    fn locate(&self, error: &serde_yaml_ng::Error) -> DefinitionError {
        let message = plain(error);
        let at = error.location().map(|l| self.narrowed((l.line(), l.column()), &message));
        self.at(at, message)
    }

    /// A name, type, duration or instant that is refused is only reported at the mapping it stands in. Its message has
    /// the text, so that is looked for from there on.
    fn narrowed(&self, at: (usize, usize), message: &str) -> (usize, usize) {
        let said = message.split_once(": `").map_or(message, |(_, said)| said).trim_start_matches('`');
        let refused = said.split_once("` is not ").map(|(wrong, _)| wrong);
        let unknown = || message.split_once("unknown value `")?.1.split_once('`').map(|(wrong, _)| wrong);
        let Some(wrong) = refused.or_else(unknown) else { return at };
        let lines = self.text.lines().enumerate().skip(at.0 - 1);
        let found = lines.flat_map(|(number, line)| {
            line.match_indices(wrong)
                .filter(|(start, _)| is_value(line, *start, wrong.len()))
                .map(move |(c, _)| (number + 1, c + 1))
        });
        found.into_iter().find(|place| *place >= at).unwrap_or(at)
    }

    fn at(&self, at: Option<(usize, usize)>, message: String) -> DefinitionError {
        match at {
            Some((line, column)) => DefinitionError { line: self.lines_before + line, column, message },
            None => self.at_content(message),
        }
    }

    /// At the first line that says something.
    fn at_content(&self, message: String) -> DefinitionError {
        let (number, line) = self.text.lines().enumerate().find(|(_, l)| is_content(l)).unwrap_or((0, ""));
        DefinitionError { line: self.lines_before + number + 1, column: indent_of(line) + 1, message }
    }
}

/// What is read once the kind is known.
struct Body<'a> {
    document: &'a Document<'a>,
    text: Option<String>,
    mapping: &'a serde_yaml_ng::Mapping,
}

impl Body<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, DefinitionError> {
        if let Some(text) = &self.text {
            return serde_yaml_ng::from_str(text).map_err(|e| {
                let error = self.document.locate(&e);
                // What is missing from the document as a whole is missed where the document begins.
                if error.message.starts_with("missing field") { self.document.at_content(error.message) } else { error }
            });
        }
        let mut mapping = self.mapping.clone();
        mapping.remove("kind");
        serde_yaml_ng::from_value(Value::Mapping(mapping)).map_err(|e| self.document.locate(&e))
    }
}

fn is_content(line: &str) -> bool {
    let text = line.trim_start();
    !text.is_empty() && !text.starts_with('#')
}

/// Whether a scalar stands at these bytes of the line, and is no key.
fn is_value(line: &str, start: usize, length: usize) -> bool {
    let before = line[..start].chars().next_back();
    let rest = line[start + length..].trim_start_matches(['"', '\'']);
    let opens = before.is_none_or(|c| matches!(c, ' ' | '"' | '\'' | '[' | '{' | ','));
    let closes = rest.chars().next().is_none_or(|c| matches!(c, ' ' | ',' | ']' | '}'));
    opens && closes && !rest.trim_start().starts_with(':')
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

/// The message without its own position (it counts within the document) and with the nearest known word.
fn plain(error: &serde_yaml_ng::Error) -> String {
    let text = without_positions(&error.to_string());
    for (what, marker) in [("key", "unknown field `"), ("value", "unknown variant `")] {
        let Some((path, rest)) = text.split_once(marker) else { continue };
        let Some((wrong, known)) = rest.split_once('`') else { continue };
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        return format!("{path}{}", unknown_word(what, wrong, &known));
    }
    text
}

/// Takes out every ` at line 3 column 10`: a message may have several.
fn without_positions(text: &str) -> String {
    let digit = |c: char| c.is_ascii_digit();
    let mut parts = text.split(" at line ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(digit);
        out.push_str(rest.strip_prefix(" column ").unwrap_or(rest).trim_start_matches(digit));
    }
    out
}

fn unknown_word(what: &str, wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{wrong}`: did you mean `{near}`?"),
        None => format!("unknown {what} `{wrong}`: known are {}", listed(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTITY: &str = "# who flies\nkind: Entity\nname: carrier\nkey: carrier\n";

    fn error(yaml: &str) -> (usize, usize, String) {
        let error = parse(yaml).expect_err("the file is wrong");
        (error.line, error.column, error.message)
    }

    #[test]
    fn documents_are_read_in_order_and_comments_pass() {
        let file = format!("# head\n---\n{ENTITY}---\n# nothing here\n---\nname: w\nkind: 'FeatureService'\n...\n");
        let kinds: Vec<_> = parse(&file).unwrap().iter().map(Definition::kind).collect();
        assert_eq!(kinds, ["Entity", "FeatureService"]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn flow_style_and_json_are_yaml_too() {
        let read = parse("{\"kind\": \"Entity\", \"name\": \"pump\", \"key\": \"pump_id\"}").unwrap();
        assert_eq!(read[0].name(), "pump");
    }

    #[test]
    fn broken_yaml_is_located_in_the_whole_file() {
        let (line, column, message) = error(&format!("{ENTITY}---\nkind: Source\nname: [unclosed\ncolumns: x\n"));
        assert_eq!((line, column), (8, 8), "the mistake shows where the unclosed list meets the next key");
        assert!(!message.contains(" at line "), "positions within the document would mislead: {message}");
    }

    #[test]
    fn an_unknown_key_is_located_and_its_neighbour_named() {
        let (line, column, message) = error(&format!("{ENTITY}---\nkind: Entity\nname: a\nkey: b\ndescripton: c\n"));
        assert_eq!((line, column), (9, 1));
        assert_eq!(message, "unknown key `descripton`: did you mean `description`?");
    }

    #[test]
    fn an_unknown_key_deep_inside_is_located() {
        let yaml = "kind: Source\nname: s\ntimestamp: t\ncolumns:\n  - {name: t, type: timestamp}\n  - name: x\n    typ: int\n";
        let (line, column, message) = error(yaml);
        assert_eq!((line, column), (7, 5), "{message}");
        assert!(message.ends_with("unknown key `typ`: did you mean `type`?"), "{message}");
    }

    #[test]
    fn a_wrong_value_is_located() {
        let (line, column, message) = error("kind: Entity\nname: Big Name\nkey: x\n");
        assert_eq!((line, column), (2, 7), "{message}");
        assert!(message.contains("`Big Name` is not a lawful name"), "{message}");
        let (line, column, message) = error(&format!(
            "{ENTITY}---\nkind: FeatureView\nname: d\nsource: s\nentities: [a]\naggregations:\n  - {{name: n, column: c, function: sum, window: 7 d}}\n  - name: m\n    window: 7x\n    column: c\n    function: sum\n"
        ));
        assert_eq!((line, column), (13, 13), "{message}");
        assert!(message.contains("`7x` is not a duration"), "{message}");
        let (line, _, message) = error("kind: Entity\nname: a\nkey: x\ntype: txt\n");
        assert_eq!(line, 4);
        assert!(message.contains("unknown value `txt`: did you mean `text`?"), "{message}");
    }

    #[test]
    fn an_unknown_kind_names_the_nearest() {
        let (line, column, message) = error("name: x\nkind: Entitty\n");
        assert_eq!((line, column), (2, 7));
        assert_eq!(message, "unknown kind `Entitty`: did you mean `Entity`?");
    }

    #[test]
    fn a_missing_kind_or_key_is_located_at_the_document() {
        let (line, column, message) = error(&format!("{ENTITY}---\n# no kind\nname: x\n"));
        assert_eq!((line, column), (7, 1));
        assert!(message.contains("`kind`"), "{message}");
        let (line, _, message) = error(&format!("{ENTITY}---\nkind: Source\nname: x\n"));
        assert_eq!(line, 6);
        assert!(message.contains("missing field `timestamp`"), "{message}");
        assert_eq!(error("- a\n- b\n").0, 1);
    }
}
