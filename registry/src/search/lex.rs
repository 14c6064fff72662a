//! The words of a filter.

use super::fault::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "<>",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Letters without a dot: a keyword, or a key.
    Word(String),
    /// `entity.key`, with or without quotes around either.
    Path(String, String),
    /// In backticks: a key.
    Key(String),
    /// In single quotes: a value.
    Value(String),
    /// In double quotes: a key or a value, as its place will tell.
    Either(String),
    Number(f64),
    Op(Op),
    Open,
    Close,
    Comma,
    End,
}

/// A token and the characters it was read from, counted from 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lexed {
    pub token: Token,
    pub from: usize,
    pub until: usize,
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

/// What a key behind a dot may hold without quotes. More than MLflow takes, and no operator among it.
fn in_key(c: char) -> bool {
    in_word(c) || matches!(c, '.' | '/' | ':' | '@')
}

/// All tokens of a text, `End` last.
pub(super) fn lex(chars: &[char]) -> Result<Vec<Lexed>, Fault> {
    let mut tokens = Vec::new();
    let mut lexer = Lexer { chars, at: 0 };
    loop {
        while lexer.peek().is_some_and(char::is_whitespace) {
            lexer.at += 1;
        }
        let from = lexer.at;
        let token = lexer.token()?;
        let done = token == Token::End;
        tokens.push(Lexed { token, from, until: lexer.at });
        if done {
            return Ok(tokens);
        }
    }
}

pub(super) struct Lexer<'a> {
    pub chars: &'a [char],
    pub at: usize,
}

impl Lexer<'_> {
    pub(super) fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    /// What is wrong at the character `from`, of which `length` characters are shown.
    pub(super) fn fault(&self, from: usize, length: usize, expected: &str) -> Fault {
        let until = (from + length).min(self.chars.len());
        Fault::new(from + 1, &self.chars[from.min(until)..until], expected)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    fn run(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let rest = self.chars[self.at..].iter().copied().take_while(|c| is_part(*c));
        let text: String = rest.collect();
        self.at += text.chars().count();
        text
    }

    fn token(&mut self) -> Result<Token, Fault> {
        let Some(c) = self.peek() else { return Ok(Token::End) };
        match c {
            '(' | ')' | ',' => {
                self.at += 1;
                Ok(match c {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                })
            }
            '=' | '!' | '<' | '>' => self.op(c),
            '\'' => Ok(Token::Value(self.quoted()?)),
            '`' | '"' => {
                let text = self.quoted()?;
                if self.eat('.') {
                    return Ok(Token::Path(text, self.key()?));
                }
                Ok(if c == '`' { Token::Key(text) } else { Token::Either(text) })
            }
            c if c.is_alphabetic() || c == '_' => {
                let word = self.run(in_word);
                if self.eat('.') { Ok(Token::Path(word, self.key()?)) } else { Ok(Token::Word(word)) }
            }
            c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.') => self.number(),
            _ => Err(self.fault(self.at, 1, "a key, an operator or a value")),
        }
    }

    fn op(&mut self, first: char) -> Result<Token, Fault> {
        let from = self.at;
        let signs = self.run(|c| matches!(c, '=' | '!' | '<' | '>'));
        let op = match signs.as_str() {
            "=" => Op::Eq,
            "!=" => Op::Ne,
            "<" => Op::Lt,
            "<=" => Op::Le,
            ">" => Op::Gt,
            ">=" => Op::Ge,
            _ => {
                let mut fault = self.fault(from, signs.chars().count(), "an operator (=, !=, <, <=, >, >=)");
                let meant = match (signs.as_str(), first) {
                    ("==", _) => Some("="),
                    ("<>" | "!", _) => Some("!="),
                    ("=<", _) => Some("<="),
                    ("=>", _) => Some(">="),
                    _ => None,
                };
                fault.nearest = meant.map(str::to_owned);
                return Err(fault);
            }
        };
        Ok(Token::Op(op))
    }

    /// A text in the quotes it starts with; the quote itself is written twice inside.
    pub(super) fn quoted(&mut self) -> Result<String, Fault> {
        let from = self.at;
        let quote = self.chars[from];
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.peek() {
            self.at += 1;
            if c == '\0' {
                return Err(self.fault(self.at - 1, 1, "a character that is not NUL"));
            }
            if c == quote && !self.eat(quote) {
                return Ok(text);
            }
            text.push(c);
        }
        Err(self.fault(self.chars.len(), 0, &format!("the {quote} that closes the one at column {}", from + 1)))
    }

    /// What stands behind the dot of a path.
    fn key(&mut self) -> Result<String, Fault> {
        let from = self.at;
        let key = match self.peek() {
            Some('`' | '"') => self.quoted()?,
            _ => self.run(in_key),
        };
        if key.is_empty() {
            let expected = "a key, in backticks or double quotes if it has other characters than letters, digits and _";
            return Err(self.fault(from, 1, expected));
        }
        Ok(key)
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let from = self.at;
        // A sign inside belongs to an exponent.
        let mut text = self.run(|c| matches!(c, '-' | '+'));
        loop {
            text.push_str(&self.run(|c| c.is_alphanumeric() || c == '.'));
            match self.peek() {
                Some(sign @ ('-' | '+')) if text.ends_with(['e', 'E']) => {
                    self.at += 1;
                    text.push(sign);
                }
                _ => break,
            }
        }
        let written_as_number =
            text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
        match text.parse() {
            Ok(number) if written_as_number => Ok(Token::Number(number)),
            _ => Err(self.fault(from, text.chars().count().max(1), "a number")),
        }
    }
}
