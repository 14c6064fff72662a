//! Filters: `[entity.]key OP value`, joined by AND, OR, NOT and parentheses.

use super::{
    Kind,
    fault::{Fault, too_much},
    fields::{self, Field, Holds},
    lex::{Lexed, Op, Token, lex},
};
use crate::RegistryError;

const FILTER_BYTES_MAX: usize = 64 * 1024;
const CLAUSES_MAX: usize = 500;
const NESTING_MAX: usize = 50;
/// Databases refuse longer patterns, some at 50,000 bytes after escaping.
const PATTERN_BYTES_MAX: usize = 8 * 1024;
const WHAT: &str = "the filter";

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Clause(Field, Test),
}

/// What is asked of a field. A field that is missing fails all but `IsNull`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Number(Op, f64),
    Same(String),
    Other(String),
    /// `%` is any text and `_` any character; `folds` ignores case.
    Like {
        pattern: String,
        folds: bool,
    },
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
    IsNull,
    IsNotNull,
}

/// The filter as a tree; `None` when it is empty.
pub(super) fn parse(kind: Kind, filter: &str) -> Result<Option<Expr>, RegistryError> {
    if filter.len() > FILTER_BYTES_MAX {
        let problem = format!("has {} bytes where at most {FILTER_BYTES_MAX} are taken", filter.len());
        return Err(too_much(WHAT, problem));
    }
    let chars: Vec<char> = filter.chars().collect();
    let tokens = lex(&chars).map_err(|fault| fault.refuse(WHAT))?;
    if tokens.len() == 1 {
        return Ok(None);
    }
    let mut parser = Parser { kind, chars: &chars, tokens: &tokens, next: 0, clauses: 0, depth: 0 };
    let tree = parser.any().and_then(|tree| match parser.peek().token {
        Token::End => Ok(tree),
        _ => Err(Refused::Fault(parser.fault("AND, OR or the end"))),
    });
    tree.map(Some).map_err(|refused| match refused {
        Refused::Fault(fault) => fault.refuse(WHAT),
        Refused::TooMuch(problem) => too_much(WHAT, problem),
    })
}

enum Refused {
    Fault(Fault),
    TooMuch(String),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Parser<'a> {
    kind: Kind,
    chars: &'a [char],
    /// The last one is `End`.
    tokens: &'a [Lexed],
    next: usize,
    clauses: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a Lexed {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn fault(&self, expected: impl Into<String>) -> Fault {
        let Lexed { from, until, .. } = self.peek();
        Fault::new(from + 1, &self.chars[*from..*until], expected)
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        let token = self.tokens.get(self.next + ahead).map(|lexed| &lexed.token);
        matches!(token, Some(Token::Word(found)) if found.eq_ignore_ascii_case(word))
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let there = self.is_word(0, word);
        self.next += usize::from(there);
        there
    }

    fn eat(&mut self, wanted: &Token) -> bool {
        let there = self.peek().token == *wanted;
        self.next += usize::from(there);
        there
    }

    fn any(&mut self) -> Result<Expr, Refused> {
        let mut parts = vec![self.all()?];
        while self.eat_word("OR") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Any(parts) })
    }

    fn all(&mut self) -> Result<Expr, Refused> {
        let mut parts = vec![self.one()?];
        while self.eat_word("AND") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::All(parts) })
    }

    fn deeper(&mut self) -> Result<(), Refused> {
        self.depth += 1;
        if self.depth > NESTING_MAX {
            return Err(Refused::TooMuch(format!("is nested more than {NESTING_MAX} deep")));
        }
        Ok(())
    }

    fn one(&mut self) -> Result<Expr, Refused> {
        if self.eat_word("NOT") {
            self.deeper()?;
            let inner = self.one()?;
            self.depth -= 1;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.eat(&Token::Open) {
            self.deeper()?;
            let inner = self.any()?;
            if !self.eat(&Token::Close) {
                return Err(self.fault("AND, OR or `)`").into());
            }
            self.depth -= 1;
            return Ok(inner);
        }
        self.clauses += 1;
        if self.clauses > CLAUSES_MAX {
            return Err(Refused::TooMuch(format!("has more than {CLAUSES_MAX} clauses")));
        }
        let field = self.field()?;
        let test = self.test(&field)?;
        Ok(Expr::Clause(field, test))
    }

    fn field(&mut self) -> Result<Field, Fault> {
        let (entity, key) = match &self.peek().token {
            Token::Path(entity, key) => (Some(entity.as_str()), key),
            Token::Word(key) | Token::Key(key) | Token::Either(key) => (None, key),
            _ => return Err(self.fault("a key")),
        };
        match fields::resolve(self.kind, entity, key) {
            Ok(field) => {
                self.next += 1;
                Ok(field)
            }
            Err(unknown) => {
                let mut fault = self.fault(unknown.expected);
                if let Some(entity) = entity.filter(|_| unknown.is_entity) {
                    fault.found = format!("`{}`", entity.chars().take(40).collect::<String>());
                }
                fault.nearest = unknown.nearest;
                Err(fault)
            }
        }
    }

    fn test(&mut self, field: &Field) -> Result<Test, Fault> {
        let is_number = field.holds().is_number();
        if self.eat_word("IS") {
            let negated = self.eat_word("NOT");
            if !self.eat_word("NULL") {
                return Err(self.fault(if negated { "NULL" } else { "NULL or NOT NULL" }));
            }
            return Ok(if negated { Test::IsNotNull } else { Test::IsNull });
        }
        if is_number {
            let Token::Op(op) = self.peek().token else {
                return Err(self.fault("one of =, !=, <, <=, >, >= and IS, as for every number"));
            };
            self.next += 1;
            let Token::Number(number) = self.peek().token else {
                return Err(self.fault("a number without quotes"));
            };
            self.next += 1;
            return Ok(Test::Number(op, number));
        }
        let negated = self.is_word(0, "NOT") && self.is_word(1, "IN");
        self.next += usize::from(negated);
        if self.eat_word("IN") {
            let values = self.list(field)?;
            return Ok(if negated { Test::NoneOf(values) } else { Test::OneOf(values) });
        }
        match &self.peek().token {
            Token::Op(op @ (Op::Eq | Op::Ne)) => {
                self.next += 1;
                let value = self.value(field)?;
                Ok(if *op == Op::Eq { Test::Same(value) } else { Test::Other(value) })
            }
            Token::Word(word) if word.eq_ignore_ascii_case("LIKE") || word.eq_ignore_ascii_case("ILIKE") => {
                self.next += 1;
                let (before, pattern) = (self.next, self.text()?);
                if pattern.len() > PATTERN_BYTES_MAX {
                    self.next = before;
                    return Err(self.fault(format!("a pattern of at most {PATTERN_BYTES_MAX} bytes")));
                }
                Ok(Test::Like { pattern, folds: word.eq_ignore_ascii_case("ILIKE") })
            }
            _ => Err(self.fault("one of =, !=, LIKE, ILIKE, IN, NOT IN and IS, as for every text")),
        }
    }

    fn text(&mut self) -> Result<String, Fault> {
        match &self.peek().token {
            Token::Value(text) | Token::Either(text) => {
                self.next += 1;
                Ok(text.clone())
            }
            _ => Err(self.fault("a text in quotes")),
        }
    }

    /// A text as it stands in the field's column.
    fn value(&mut self, field: &Field) -> Result<String, Fault> {
        let text = self.text()?;
        if field.holds() != Holds::ModelStatus {
            return Ok(text);
        }
        // The wire, the client and the filters of MLflow spell it in three ways.
        Ok(match text.strip_prefix("LOGGED_MODEL_").unwrap_or(&text) {
            "FAILED" => "UPLOAD_FAILED".to_owned(),
            word => word.to_owned(),
        })
    }

    fn list(&mut self, field: &Field) -> Result<Vec<String>, Fault> {
        if !self.eat(&Token::Open) {
            return Err(self.fault("a list such as ('a', 'b')"));
        }
        let mut values = vec![self.value(field)?];
        loop {
            if self.eat(&Token::Close) {
                return Ok(values);
            }
            if !self.eat(&Token::Comma) {
                return Err(self.fault("`,` or `)`"));
            }
            values.push(self.value(field)?);
        }
    }
}
