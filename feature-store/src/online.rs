//! Reading the online store: all of a request's questions at once, equal ones asked once; memory answers what it
//! can, the rest goes to the store in one call.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::PoisonError,
};

use domain::{Column, Frame, Timestamp, Value};
use storage::{Floor, Kv};

use crate::{
    answer::{Newest, ViewRows},
    catalog::{ServicePart, ServicePlan},
    codec,
    error::{Doing as _, FeatureError},
    exact::Totals,
    hot::{Hot, RUN_ROWS, Run},
    key,
    offline::window_column,
    parse::KEY_TEXT_BYTES_MAX,
    view::{Rule, ViewPlan},
    window::{
        Ends, State,
        read::{Piece, pieces},
    },
};

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Entities that one request may read into memory; the others wait for the next.
const FILLS_MAX: usize = 16;

/// The questions of a request; equal ones share a number.
#[derive(Default)]
struct Questions {
    floors: Vec<Floor>,
    /// End of each part's questions.
    ends: Vec<usize>,
    known: HashMap<Vec<u8>, usize>,
}

impl Questions {
    /// Asks for the entity's newest row at or before `at`.
    fn ask(&mut self, entity: &[u8], at: Timestamp) -> usize {
        let mut key = Vec::with_capacity(entity.len() + 25);
        key.extend_from_slice(entity);
        key::push_after(&mut key, at);
        self.add(Floor { key, prefix: entity.len() })
    }

    /// Asks a question; no two that have the same key differ in their prefix.
    fn add(&mut self, question: Floor) -> usize {
        if let Some(number) = self.known.get(&question.key) {
            return *number;
        }
        let number = self.floors.len();
        self.known.insert(question.key.clone(), number);
        self.floors.push(question);
        number
    }
}

/// The questions of one row to one view.
struct Asked {
    /// Length of the entity's key.
    entity: usize,
    newest: usize,
    /// Per window of totals of the part: the rows at its open and at its closed end.
    ends: Vec<(usize, usize)>,
    /// Per window of tiles of the part: its pieces.
    tiles: Vec<Vec<(usize, Piece)>>,
}

/// What a question found.
struct Hit<T> {
    at: Timestamp,
    values: T,
}

/// Answers every part of the service, row by row.
pub(crate) async fn read(
    kv: &dyn Kv,
    hot: &Hot,
    plan: &ServicePlan,
    keys: &Frame,
    at: &[Timestamp],
) -> Result<Vec<ViewRows>, FeatureError> {
    let mut questions = Questions::default();
    let mut asked = Vec::with_capacity(plan.parts.len());
    for part in &plan.parts {
        let columns = part.view.key_columns(keys)?;
        let rows = at.iter().enumerate().map(|(row, at)| ask(&mut questions, part, &columns, row, *at));
        asked.push(rows.collect::<Vec<_>>());
        questions.ends.push(questions.floors.len());
    }
    let found = find(kv, hot, plan, questions).await?;
    let parts = plan.parts.iter().zip(asked);
    parts
        .map(
            |(part, asked)| {
                if part.view.is_windowed() { windows(part, &asked, &found) } else { newest(part, &asked, &found, at) }
            },
        )
        .collect()
}

/// An entity whose rows are not in memory.
struct Wanted<'a> {
    part: usize,
    /// Key of the earliest row asked for; `None`: before its first.
    from: Option<&'a [u8]>,
    questions: usize,
}

/// What each question finds, from memory or from the store.
async fn find(
    kv: &dyn Kv,
    hot: &Hot,
    plan: &ServicePlan,
    questions: Questions,
) -> Result<Vec<Option<Pair>>, FeatureError> {
    let mut found: Vec<Option<Pair>> = vec![None; questions.floors.len()];
    let mut missed: Vec<usize> = Vec::new();
    let mut tickets = Vec::with_capacity(plan.parts.len());
    let mut begin = 0;
    for (part, &end) in plan.parts.iter().zip(&questions.ends) {
        let view = hot.view(part.view.layout);
        let view = view.read().unwrap_or_else(PoisonError::into_inner);
        tickets.push(view.ticket());
        let here = || (begin..end).zip(&questions.floors[begin..end]);
        if !part.tiles.is_empty() {
            // Tiles are few and large: they are not kept in memory, and no row is answered half from there.
            missed.extend(begin..end);
            begin = end;
            continue;
        }
        // One entity's questions are answered from one place: a window is a difference, and memory and store may
        // stand on two sides of a write.
        let absent: HashSet<&[u8]> = here()
            .filter(|(_, question)| view.floor(&question.key, question.prefix).is_none())
            .map(|(_, question)| &question.key[..question.prefix])
            .collect();
        for (number, question) in here() {
            if absent.contains(&question.key[..question.prefix]) {
                missed.push(number);
            } else {
                found[number] = view.floor(&question.key, question.prefix).flatten().cloned();
            }
        }
        begin = end;
    }
    if missed.is_empty() {
        return Ok(found);
    }
    let floors: Vec<Floor> = missed.iter().map(|&number| questions.floors[number].clone()).collect();
    let answers = kv.floor_many(&floors).await.doing("read online values")?;
    // Per entity the earliest row that was asked for: from there on its rows go into memory, those of the
    // entities first that were asked about most.
    let mut wanted: BTreeMap<&[u8], Wanted<'_>> = BTreeMap::new();
    for ((&number, floor), answer) in missed.iter().zip(&floors).zip(&answers) {
        let part = questions.ends.partition_point(|end| *end <= number);
        if !plan.parts[part].tiles.is_empty() {
            continue;
        }
        let from = answer.as_ref().map(|pair| pair.0.as_slice());
        let wanted = wanted.entry(&floor.key[..floor.prefix]).or_insert(Wanted { part, from, questions: 0 });
        // Nothing found: from the entity's very first row.
        wanted.from = wanted.from.min(from);
        wanted.questions += 1;
    }
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_by_key(|(_, wanted)| Reverse(wanted.questions));
    for (entity, Wanted { part, from, .. }) in wanted.into_iter().take(FILLS_MAX) {
        let mut end = entity.to_vec();
        key::push_after(&mut end, Timestamp::MAX);
        let pairs = kv.range(from.unwrap_or(entity), &end, RUN_ROWS).await.doing("read online values")?;
        let run = Run { from_start: from.is_none(), to_end: pairs.len() < RUN_ROWS, pairs };
        let view = hot.view(plan.parts[part].view.layout);
        view.write().unwrap_or_else(PoisonError::into_inner).keep(tickets[part], entity.to_vec(), run);
    }
    for (number, answer) in missed.into_iter().zip(answers) {
        found[number] = answer;
    }
    Ok(found)
}

fn ask(questions: &mut Questions, part: &ServicePart, columns: &[&Column], row: usize, at: Timestamp) -> Option<Asked> {
    let mut entity = part.view.layout.prefix();
    let bare = entity.len();
    let complete = columns.iter().all(|column| key::push_cell(&mut entity, column, row));
    if entity.len() > bare + columns.len() * (KEY_TEXT_BYTES_MAX + 8) {
        // Never stored, and the store could not even look for a much longer one: ask for what nobody has.
        entity.truncate(bare);
        entity.push(0xFE);
    }
    if !complete {
        return None;
    }
    let newest = questions.ask(&entity, at);
    let ends = part.windows.iter().map(|window| {
        let Ends { open, close } = window.ends(at.micros());
        (questions.ask(&entity, Timestamp::from_micros(open)), questions.ask(&entity, Timestamp::from_micros(close)))
    });
    let ends = ends.collect();
    let length = entity.len();
    entity[0] = part.view.layout.tiles().tag;
    let tiles = part.tiles.iter().map(|(chain, window)| {
        let pieces = pieces(&part.view.tiles.0[*chain], &entity, window.ends(at.micros()));
        pieces.into_iter().map(|piece| (questions.add(piece.question().clone()), piece)).collect()
    });
    Some(Asked { entity: length, newest, ends, tiles: tiles.collect() })
}

fn newest(
    part: &ServicePart,
    asked: &[Option<Asked>],
    found: &[Option<Pair>],
    at: &[Timestamp],
) -> Result<ViewRows, FeatureError> {
    let view = &part.view;
    let mut states = Vec::with_capacity(asked.len());
    let mut rows: Vec<Option<Vec<Value>>> = Vec::with_capacity(asked.len());
    for (asked, &at) in asked.iter().zip(at) {
        let hit = asked.as_ref().and_then(|asked| found[asked.newest].as_ref().map(|pair| (asked, pair)));
        let Some((asked, pair)) = hit else {
            states.push(Newest::Nothing);
            rows.push(None);
            continue;
        };
        let time = event_time(pair, asked.entity)?;
        if view.in_time(time, at) {
            states.push(Newest::At(time));
            rows.push(Some(codec::read_values(&pair.1)?));
        } else {
            states.push(Newest::TooOld(time));
            rows.push(None);
        }
    }
    let mut columns = Vec::with_capacity(part.outputs.len());
    for output in part.outputs.iter().map(|&index| &view.outputs[index]) {
        let Rule::Newest { kept, default } = &output.rule else { return Err(mixed(view)) };
        let mut column = Column::with_capacity(output.kind, rows.len());
        for row in &rows {
            let value = match row {
                Some(values) => values.get(*kept).cloned().ok_or_else(|| codec::corrupt("too few values".into()))?,
                None => default.clone(),
            };
            column.push(value).map_err(|e| codec::corrupt(e.to_string()))?;
        }
        columns.push(column);
    }
    Ok(ViewRows { columns, newest: states })
}

fn windows(part: &ServicePart, asked: &[Option<Asked>], found: &[Option<Pair>]) -> Result<ViewRows, FeatureError> {
    let view = &part.view;
    let mut hits: HashMap<usize, Option<Hit<Vec<Totals>>>> = HashMap::new();
    for asked in asked.iter().flatten() {
        let ends = asked.ends.iter().flat_map(|(open, close)| [*open, *close]);
        for question in ends.chain([asked.newest]) {
            if let std::collections::hash_map::Entry::Vacant(entry) = hits.entry(question) {
                let hit = found[question].as_ref().map(|pair| read_totals(view, pair, asked.entity)).transpose()?;
                entry.insert(hit);
            }
        }
    }
    let hit = |question: usize| hits.get(&question).and_then(Option::as_ref);
    let newest = asked
        .iter()
        .map(|asked| asked.as_ref().and_then(|a| hit(a.newest)).map_or(Newest::Nothing, |hit| Newest::At(hit.at)))
        .collect();
    let states = (0..part.tiles.len()).map(|window| merged(part, window, asked, found));
    let states = states.collect::<Result<Vec<_>, _>>()?;
    let mut columns = Vec::with_capacity(part.outputs.len());
    for output in part.outputs.iter().map(|&index| &view.outputs[index]) {
        columns.push(match &output.rule {
            Rule::Newest { .. } => return Err(mixed(view)),
            Rule::Window { kept, function, window } => {
                let place = part.windows.iter().position(|w| w == window).ok_or_else(|| mixed(view))?;
                let through = |question: usize| hit(question).map_or_else(Totals::default, |hit| hit.values[*kept]);
                let totals = asked.iter().map(|asked| {
                    let (open, close) = asked.as_ref()?.ends[place];
                    Some(through(close).minus(through(open)))
                });
                window_column(*function, totals)?
            }
            Rule::Tile(rule) => {
                let place = part.tiles.iter().position(|tiles| *tiles == (rule.chain, rule.span));
                let states = &states[place.ok_or_else(|| mixed(view))?];
                let mut column = Column::with_capacity(output.kind, states.len());
                for state in states {
                    let value = state.as_ref().map_or(Ok(Value::Null), |state| rule.finish(state))?;
                    column.push(value).map_err(|e| codec::corrupt(e.to_string()))?;
                }
                column
            }
        });
    }
    Ok(ViewRows { columns, newest })
}

/// The state of one of the part's windows of tiles for each row; `None` where a key is null.
fn merged(
    part: &ServicePart,
    window: usize,
    asked: &[Option<Asked>],
    found: &[Option<Pair>],
) -> Result<Vec<Option<State>>, FeatureError> {
    let chain = &part.view.tiles.0[part.tiles[window].0];
    let state = |asked: &Asked| {
        let mut state = chain.empty();
        for (question, piece) in &asked.tiles[window] {
            if let Some(pair) = &found[*question] {
                piece.merge(chain, pair, &mut state)?;
            }
        }
        Ok(state)
    };
    asked.iter().map(|asked| asked.as_ref().map(state).transpose()).collect()
}

fn read_totals(view: &ViewPlan, pair: &Pair, entity: usize) -> Result<Hit<Vec<Totals>>, FeatureError> {
    let values = codec::read_totals(&pair.1, view.kept.iter().map(|kept| kept.squares))?;
    Ok(Hit { at: event_time(pair, entity)?, values })
}

fn event_time(pair: &Pair, entity: usize) -> Result<Timestamp, FeatureError> {
    let micros = key::read_ordered(&pair.0, entity);
    micros.map(Timestamp::from_micros).ok_or_else(|| codec::corrupt("a key without an event time".into()))
}

/// A view holds either kind of output, never both: definitions that mix them are refused.
fn mixed(view: &ViewPlan) -> FeatureError {
    codec::corrupt(format!("view `{}` mixes features and aggregations", view.name))
}
