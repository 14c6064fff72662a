//! The point-in-time join: each entity's rows sorted by event time, created and order of ingestion; a question
//! is a binary search. Windows are differences of running totals, finished by the same code as online.

use std::collections::HashMap;

use domain::{Column, Timestamp, Value};

use crate::{
    answer::{Newest, ViewRows},
    codec,
    error::FeatureError,
    exact::{Exact, Totals},
    history::History,
    key,
    online::Pair,
    view::{Rule, ViewPlan},
    window::{self, Ends, Rank, WindowSpan, write::TileRow},
};

/// One view over one history.
pub(crate) struct ViewIndex {
    codes: HashMap<Vec<u8>, u32>,
    /// Entity `code` has `order[starts[code]..starts[code + 1]]`.
    starts: Vec<usize>,
    /// Rows of the history, by entity, then time, then (in plain views) created, then number.
    order: Vec<usize>,
    /// Their event times in microseconds.
    times: Vec<i64>,
    /// Per kept column of a windowed view: totals of the rows before each position, over all entities.
    running: Vec<Vec<Totals>>,
}

/// The rows of a question's entity.
enum Chain {
    /// A key is null: it equals nothing.
    NoKey,
    Rows(usize, usize),
}

impl ViewIndex {
    pub(crate) fn build(view: &ViewPlan, history: &History) -> Result<Self, FeatureError> {
        let keys: Vec<&Column> = view.keys.iter().map(|k| history.column(k.at)).collect::<Result<_, _>>()?;
        let mut codes: HashMap<Vec<u8>, u32> = HashMap::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut buffer = Vec::new();
        for row in 0..history.rows() {
            buffer.clear();
            if !keys.iter().all(|column| key::push_cell(&mut buffer, column, row)) {
                continue;
            }
            let code = match codes.get(&buffer) {
                Some(code) => *code,
                None => {
                    let code = u32::try_from(members.len()).unwrap_or(u32::MAX);
                    codes.insert(buffer.clone(), code);
                    members.push(Vec::new());
                    code
                }
            };
            members[code as usize].push(row);
        }
        let mut starts = vec![0];
        let mut order = Vec::with_capacity(history.rows());
        for mut rows in members {
            // Rows come in order of ingestion and the sort is stable, so full ties keep that order. Sums do not
            // ask who was written first, and online totals stand in order of ingestion within an instant.
            match history.created.as_ref().filter(|_| !view.is_windowed()) {
                Some(created) => rows.sort_by_key(|&row| (history.times[row], created[row])),
                None => rows.sort_by_key(|&row| history.times[row]),
            }
            order.extend(rows);
            starts.push(order.len());
        }
        let times = order.iter().map(|&row| history.times[row]).collect();
        let mut running = Vec::new();
        if view.is_windowed() {
            for kept in &view.kept {
                let column = history.column(kept.at)?;
                let mut sum = Totals::default();
                let mut sums = Vec::with_capacity(order.len() + 1);
                sums.push(sum);
                for &row in &order {
                    sum = sum.plus(Totals::of(&column.get(row), kept.squares));
                    sums.push(sum);
                }
                running.push(sums);
            }
        }
        Ok(Self { codes, starts, order, times, running })
    }

    /// Answers the asked outputs for each question row: the keys (the view's, in order) as of `at`.
    pub(crate) fn ask(
        &self,
        view: &ViewPlan,
        history: &History,
        outputs: &[usize],
        keys: &[&Column],
        at: &[Timestamp],
    ) -> Result<ViewRows, FeatureError> {
        let chains: Vec<Chain> = self.chains(keys, at.len());
        // End of the rows at or before each question.
        let ends: Vec<usize> = chains.iter().zip(at).map(|(chain, at)| self.end(chain, at.micros())).collect();
        let newest: Vec<Newest> = chains
            .iter()
            .zip(&ends)
            .zip(at)
            .map(|((chain, &end), &at)| match chain {
                Chain::Rows(start, _) if end > *start => {
                    let time = Timestamp::from_micros(self.times[end - 1]);
                    if view.in_time(time, at) { Newest::At(time) } else { Newest::TooOld(time) }
                }
                _ => Newest::Nothing,
            })
            .collect();
        let mut tiled = self.tiled(view, history, outputs, &chains, at)?;
        let mut bounds: HashMap<WindowSpan, Vec<(usize, usize)>> = HashMap::new();
        let mut columns = Vec::with_capacity(outputs.len());
        for (number, output) in outputs.iter().map(|&index| &view.outputs[index]).enumerate() {
            columns.push(match &output.rule {
                Rule::Newest { kept, default } => {
                    let column = history.column(view.kept[*kept].at)?;
                    let rows = newest.iter().zip(&ends).map(|(newest, &end)| match newest {
                        Newest::At(_) => Some(self.order[end - 1]),
                        _ => None,
                    });
                    pick(column, rows, default)
                }
                Rule::Window { kept, function, window } => {
                    let bounds = bounds.entry(*window).or_insert_with(|| {
                        let bounds = |(chain, at): (&Chain, &Timestamp)| {
                            let Ends { open, close } = window.ends(at.micros());
                            (self.end(chain, open), self.end(chain, close))
                        };
                        chains.iter().zip(at).map(bounds).collect()
                    });
                    let sums = &self.running[*kept];
                    let totals = chains.iter().zip(bounds).map(|(chain, (begin, end))| match chain {
                        Chain::NoKey => None,
                        Chain::Rows(..) => Some(sums[*end].minus(sums[*begin])),
                    });
                    window_column(*function, totals)?
                }
                Rule::Tile(_) => {
                    let mut column = Column::with_capacity(output.kind, at.len());
                    for value in std::mem::take(&mut tiled[number]) {
                        column.push(value).map_err(|e| codec::corrupt(e.to_string()))?;
                    }
                    column
                }
            });
        }
        Ok(ViewRows { columns, newest })
    }

    /// Per output the values of those that are merged from tiles; empty for all others.
    fn tiled(
        &self,
        view: &ViewPlan,
        history: &History,
        outputs: &[usize],
        chains: &[Chain],
        at: &[Timestamp],
    ) -> Result<Vec<Vec<Value>>, FeatureError> {
        let rules: Vec<_> = outputs.iter().map(|&index| view.outputs[index].tile()).collect();
        let mut values: Vec<Vec<Value>> =
            rules.iter().map(|rule| rule.map_or_else(Vec::new, |_| vec![Value::Null; at.len()])).collect();
        if rules.iter().all(Option::is_none) {
            return Ok(values);
        }
        let columns = history.columns(view.needed())?;
        // By entity, then time; entities that are unknown share the range of none.
        let mut questions: Vec<(usize, usize, i64, usize)> = Vec::with_capacity(at.len());
        for (row, (chain, at)) in chains.iter().zip(at).enumerate() {
            if let Chain::Rows(start, end) = chain {
                questions.push((*start, *end, at.micros(), row));
            }
        }
        questions.sort_unstable();
        for asked in questions.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (start, end, ..) = asked[0];
            let cell = |row: usize, column: usize| columns[&column].get(self.order[start + row]);
            let rank = |row: usize| self.rank(history, start + row);
            let entity = window::Entity { times: &self.times[start..end], rank: &rank, cell: &cell };
            window::answer(view, &rules, &entity, asked.iter().map(|(.., at, row)| (*at, *row)), &mut values)?;
        }
        Ok(values)
    }

    fn chains(&self, keys: &[&Column], rows: usize) -> Vec<Chain> {
        let mut buffer = Vec::new();
        (0..rows)
            .map(|row| {
                buffer.clear();
                if !keys.iter().all(|column| key::push_cell(&mut buffer, column, row)) {
                    return Chain::NoKey;
                }
                self.codes.get(&buffer).map_or(Chain::Rows(0, 0), |&code| {
                    Chain::Rows(self.starts[code as usize], self.starts[code as usize + 1])
                })
            })
            .collect()
    }

    /// Position behind the chain's last row at or before `at`; the chain's start when there is none.
    fn end(&self, chain: &Chain, at: i64) -> usize {
        match *chain {
            Chain::NoKey => 0,
            Chain::Rows(start, end) => start + self.times[start..end].partition_point(|time| *time <= at),
        }
    }

    /// The view's layout, in order of its keys within each entity.
    pub(crate) fn online_pairs(&self, view: &ViewPlan, history: &History) -> Result<Vec<Pair>, FeatureError> {
        let columns: Vec<&Column> = view.kept.iter().map(|k| history.column(k.at)).collect::<Result<_, _>>()?;
        let mut pairs = Vec::with_capacity(self.order.len());
        for (entity, &code) in &self.codes {
            let (start, end) = (self.starts[code as usize], self.starts[code as usize + 1]);
            for position in start..end {
                let row = self.order[position];
                let mut online = view.layout.prefix();
                online.extend_from_slice(entity);
                let at = Timestamp::from_micros(self.times[position]);
                let value = if view.is_windowed() {
                    key::push_totals(&mut online, at, history.numbers[row]);
                    let totals: Vec<Totals> =
                        self.running.iter().map(|sums| sums[position + 1].minus(sums[start])).collect();
                    codec::write_totals(&totals, view.kept.iter().map(|kept| kept.squares))
                } else {
                    let created = history.created.as_ref().and_then(|created| created[row]);
                    key::push_plain(&mut online, at, created.map(Timestamp::from_micros), history.numbers[row]);
                    let values: Vec<Value> = columns.iter().map(|column| column.get(row)).collect();
                    codec::write_values(&values)
                };
                pairs.push((online, value));
            }
        }
        Ok(pairs)
    }
}

impl ViewIndex {
    /// Where the row at a position stands among its entity's.
    fn rank(&self, history: &History, position: usize) -> Rank {
        let row = self.order[position];
        (self.times[position], history.created.as_ref().and_then(|created| created[row]), history.numbers[row])
    }

    /// The tiles of the view's layout, entity by entity from the one numbered `first` on, until there are `enough`
    /// pairs; and the number of the entity that comes next, while there is one.
    pub(crate) fn tile_pairs(
        &self,
        view: &ViewPlan,
        history: &History,
        first: usize,
        enough: usize,
    ) -> Result<(Vec<Pair>, Option<usize>), FeatureError> {
        let columns = history.columns(view.needed())?;
        let mut entities: Vec<(&u32, &Vec<u8>)> = self.codes.iter().map(|(entity, code)| (code, entity)).collect();
        entities.sort_unstable();
        let mut pairs = Vec::new();
        for (code, entity) in entities.into_iter().skip(first) {
            let code = *code as usize;
            if pairs.len() >= enough {
                return Ok((pairs, Some(code)));
            }
            let mut key = view.layout.tiles().prefix();
            key.extend_from_slice(entity);
            for chain in &view.tiles.0 {
                let rows = (self.starts[code]..self.starts[code + 1]).map(|position| {
                    let row = self.order[position];
                    let values = chain.columns.iter().map(|column| columns[column].get(row)).collect();
                    let (at, created, number) = self.rank(history, position);
                    ((at, number), TileRow { created, values })
                });
                window::write::build(chain, &key, rows, &mut pairs);
            }
        }
        Ok((pairs, None))
    }
}

/// The aggregate of each row's totals as a column; `None` (a null key) is null.
pub(crate) fn window_column(
    function: Exact,
    totals: impl Iterator<Item = Option<Totals>>,
) -> Result<Column, FeatureError> {
    let mut column = Column::with_capacity(function.kind(), totals.size_hint().0);
    for totals in totals {
        let value = totals.map_or(Value::Null, |totals| totals.finish(function));
        column.push(value).map_err(|e| codec::corrupt(e.to_string()))?;
    }
    Ok(column)
}

/// The cells of `column` at the given rows; `default` where there is none.
pub(crate) fn pick(column: &Column, rows: impl Iterator<Item = Option<usize>>, default: &Value) -> Column {
    match column {
        Column::Bool(v) => {
            let default = if let Value::Bool(b) = default { Some(*b) } else { None };
            Column::Bool(rows.map(|row| row.map_or(default, |row| v[row])).collect())
        }
        Column::Int(v) => {
            let default = if let Value::Int(i) = default { Some(*i) } else { None };
            Column::Int(rows.map(|row| row.map_or(default, |row| v[row])).collect())
        }
        Column::Float(v) => {
            let default = if let Value::Float(x) = default { Some(*x) } else { None };
            Column::Float(rows.map(|row| row.map_or(default, |row| v[row])).collect())
        }
        Column::Text(v) => {
            let default = if let Value::Text(s) = default { Some(s.clone()) } else { None };
            Column::Text(rows.map(|row| row.map_or_else(|| default.clone(), |row| v[row].clone())).collect())
        }
        Column::Timestamp(v) => {
            let default = if let Value::Timestamp(t) = default { Some(*t) } else { None };
            Column::Timestamp(rows.map(|row| row.map_or(default, |row| v[row])).collect())
        }
        Column::List(list, v) => {
            let default = if let Value::List(values) = default { Some(values.clone()) } else { None };
            let cells = rows.map(|row| row.map_or_else(|| default.clone(), |row| v[row].clone()));
            Column::List(*list, cells.collect())
        }
    }
}
