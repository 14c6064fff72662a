//! The preprocessing as ONNX nodes. Columns that take the same steps are joined first: a node costs a microsecond or
//! two whatever its width, and there may be fifty columns.

use std::{collections::HashMap, f32::consts::TAU};

use backends::onnx::{GraphBuilder, Wire};
use domain::ValueType;

use super::{Preprocessor, Scaled, Vocabulary, vocabulary::Keys};

/// What the learner reads.
pub(crate) struct Prepared {
    /// `[N, width]`; absent where the width is zero.
    pub(crate) dense: Option<Wire<f32>>,
    /// Per embedding the categories' numbers, `[N]`.
    pub(crate) categories: Vec<Wire<i64>>,
}

enum Input {
    Number(Wire<f32>),
    Text(Wire<str>),
}

struct Writer<'a> {
    graph: &'a mut GraphBuilder,
    inputs: HashMap<&'a str, Input>,
}

impl Preprocessor {
    /// Declares the inputs and writes the steps.
    pub(crate) fn write_onnx(&self, graph: &mut GraphBuilder) -> Prepared {
        let mut inputs = HashMap::new();
        for field in &self.inputs {
            let input = match field.kind {
                ValueType::Text => Input::Text(graph.input(&field.name)),
                _ => Input::Number(graph.input(&field.name)),
            };
            inputs.insert(&*field.name, input);
        }
        let mut writer = Writer { graph, inputs };
        let mut parts = Vec::new();
        if !self.scaled.is_empty() {
            writer.scaled(&self.scaled, &mut parts);
        }
        if !self.cycles.is_empty() {
            writer.cycles(self, &mut parts);
        }
        for vocabulary in self.one_hots.iter().filter(|vocabulary| vocabulary.len() > 0) {
            let number = writer.number(vocabulary);
            let each: Vec<i64> = (1..).take(vocabulary.len()).collect();
            let each = writer.graph.ints(&[1, vocabulary.len()], &each);
            let hit = writer.graph.equal(&number, &each);
            parts.push(writer.graph.flag_to_float(&hit));
        }
        let dense = (!parts.is_empty()).then(|| writer.graph.concat(&parts));
        let mut categories = Vec::new();
        for embedding in &self.embeddings {
            let number = writer.number(&embedding.vocabulary);
            categories.push(writer.graph.reshape(&number, &[-1]));
        }
        Prepared { dense, categories }
    }
}

impl Writer<'_> {
    fn column(&self, name: &str) -> Wire<f32> {
        match &self.inputs[name] {
            Input::Number(wire) => wire.clone(),
            Input::Text(_) => unreachable!("the plan lets no text column in here"),
        }
    }

    fn row(&mut self, values: impl Iterator<Item = f32>) -> Wire<f32> {
        let values: Vec<f32> = values.collect();
        self.graph.floats(&[1, values.len()], &values)
    }

    fn scaled(&mut self, scaled: &[Scaled], parts: &mut Vec<Wire<f32>>) {
        let raw: Vec<_> = scaled.iter().map(|one| self.raw(one)).collect();
        let raw = self.graph.concat(&raw);
        let null = self.graph.is_nan(&raw);
        let medians = self.row(scaled.iter().map(|one| one.median));
        let filled = self.graph.choose(&null, &medians, &raw);
        let filled = self.logged(scaled, filled);
        let means = self.row(scaled.iter().map(|one| one.mean));
        let stds = self.row(scaled.iter().map(|one| one.std));
        let (high, low) = (self.row(scaled.iter().map(|one| one.clip)), self.row(scaled.iter().map(|one| -one.clip)));
        let centred = self.graph.sub(&filled, &means);
        let standard = self.graph.div(&centred, &stds);
        let cut = self.graph.min(&standard, &high);
        parts.push(self.graph.max(&cut, &low));

        let flagged: Vec<i64> = (0..).zip(scaled).filter(|(_, one)| one.flag).map(|(at, _)| at).collect();
        if !flagged.is_empty() {
            let flags = self.graph.flag_to_float(&null);
            let which = self.graph.ints(&[flagged.len()], &flagged);
            parts.push(self.graph.gather(&flags, &which, 1));
        }
    }

    fn raw(&mut self, scaled: &Scaled) -> Wire<f32> {
        let column = self.column(&scaled.column);
        match &scaled.minus {
            Some(minus) => {
                let minus = self.column(minus);
                self.graph.sub(&column, &minus)
            }
            None => column,
        }
    }

    /// Takes the logarithm of the columns at the end that want it.
    fn logged(&mut self, scaled: &[Scaled], filled: Wire<f32>) -> Wire<f32> {
        let plain = scaled.iter().filter(|one| !one.log).count();
        if plain == scaled.len() {
            return filled;
        }
        let range = |from: usize, to: usize| (from as i64..to as i64).collect::<Vec<_>>();
        let (first, last) = (range(0, plain), range(plain, scaled.len()));
        let last = self.graph.ints(&[last.len()], &last);
        let x = self.graph.gather(&filled, &last, 1);
        let (zero, one) = (self.graph.floats(&[], &[0.0]), self.graph.floats(&[], &[1.0]));
        let x = self.graph.max(&x, &zero);
        let x = self.graph.add(&x, &one);
        let logs = self.graph.log(&x);
        if first.is_empty() {
            return logs;
        }
        let first = self.graph.ints(&[first.len()], &first);
        let first = self.graph.gather(&filled, &first, 1);
        self.graph.concat(&[first, logs])
    }

    fn cycles(&mut self, fitted: &Preprocessor, parts: &mut Vec<Wire<f32>>) {
        let raw: Vec<_> = fitted.cycles.iter().map(|cycle| self.column(&cycle.column)).collect();
        let raw = self.graph.concat(&raw);
        let periods = self.row(fitted.cycles.iter().map(|cycle| cycle.period));
        let turns = self.graph.div(&raw, &periods);
        let whole = self.graph.floor(&turns);
        let phase = self.graph.sub(&turns, &whole);
        let null = self.graph.is_nan(&phase);
        let turn = self.graph.floats(&[], &[TAU]);
        let angle = self.graph.mul(&phase, &turn);
        let zero = self.graph.floats(&[], &[0.0]);
        for wave in [self.graph.sin(&angle), self.graph.cos(&angle)] {
            parts.push(self.graph.choose(&null, &zero, &wave));
        }
    }

    /// Category numbers, `[N, 1]`.
    fn number(&mut self, vocabulary: &Vocabulary) -> Wire<i64> {
        let numbers: Vec<i64> = (1..).take(vocabulary.len()).collect();
        match (&vocabulary.keys, &self.inputs[&*vocabulary.column]) {
            // An encoder must have a key: one that cannot occur stands in where no category is known.
            (Keys::Texts(keys), Input::Text(wire)) if keys.is_empty() => {
                self.graph.encode_texts(wire, &["\u{1}no category"], &[0], 0)
            }
            (Keys::Texts(keys), Input::Text(wire)) => {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                self.graph.encode_texts(wire, &keys, &numbers, 0)
            }
            (Keys::Numbers(keys), Input::Number(wire)) if keys.is_empty() => {
                self.graph.encode_floats(wire, &[0.0], &[0], 0)
            }
            (Keys::Numbers(keys), Input::Number(wire)) => self.graph.encode_floats(wire, keys, &numbers, 0),
            _ => unreachable!("a vocabulary has the kind of its column"),
        }
    }
}
