//! Bringing rows online: as they come, and whole views when their layout is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use domain::Timestamp;
use storage::{Floor, Kv};

use crate::{
    Inner, codec,
    error::{Doing as _, FeatureError},
    exact::{self, Totals},
    history::History,
    key::{self, Layout},
    offline::ViewIndex,
    online::Pair,
    table::{SourceTable, StoredRow},
    view::{SourcePlan, ViewPlan},
    window::write::{self, TileChanges, TileRow},
};

/// Where a row stands in an entity's chain: event time, then row number.
pub(crate) type Place = (i64, i64);

/// Pairs read or written together.
const PAGE: usize = 16_384;

/// What a batch of rows does to one entity's chain of running totals.
#[derive(Default)]
struct ChainChange {
    inserts: BTreeMap<Place, Vec<Totals>>,
    removals: BTreeSet<Place>,
}

/// Changes of chains by the entity's key prefix.
type Entities = BTreeMap<Vec<u8>, ChainChange>;

/// What a batch of rows does to the online store.
#[derive(Default)]
struct Changes {
    puts: Vec<Pair>,
    deletes: Vec<Vec<u8>>,
    /// Per windowed view: changes by entity.
    chains: Vec<(Arc<ViewPlan>, Entities)>,
    /// Per windowed view and chain of tiles (by number): changes by tile.
    tiles: Vec<(Arc<ViewPlan>, usize, TileChanges)>,
}

impl Inner {
    /// Writes the effects of rows that are stored already, all at once and durably. Applying the same rows
    /// again changes nothing. The caller holds the table's `writing`.
    pub(crate) async fn put_online(
        &self,
        plan: &Arc<SourcePlan>,
        table: &SourceTable,
        rows: Vec<StoredRow>,
        seen: Vec<Pair>,
    ) -> Result<(), FeatureError> {
        let Some(last) = rows.last().map(|row| row.number) else { return Ok(()) };
        let newest = rows.iter().map(|row| plan.event_time(&row.values)).max().unwrap_or(Timestamp::MIN);
        let old = self.replaced(plan, table, &rows).await?;
        let shared = plan.clone();
        let changes = self.cpu.run(move || changes(&shared, &rows, &old)).await.doing("compute online values")?;
        let Changes { mut puts, mut deletes, chains, tiles } = changes;
        for (view, entities) in chains {
            self.link(&view, entities, &mut puts, &mut deletes).await?;
        }
        for (view, chain, changes) in tiles {
            write::weave(&*self.kv, &view.tiles.0[chain], changes, &mut puts, &mut deletes).await?;
        }
        let applied = u64::try_from(last).unwrap_or(0) + 1;
        puts.extend(seen);
        puts.push(self.newest.pair(&plan.definition.name, newest));
        puts.push((key::applied(plan.definition.name.as_str()), applied.to_le_bytes().to_vec()));
        let writing = self.hot.begin(plan.views.iter().map(|view| view.layout));
        let (put, deleted) = (puts.clone(), deletes.iter().cloned().collect());
        self.kv.write(puts, deletes, true).await.doing("write online values")?;
        writing.finish(&put, &deleted);
        table.applied.store(applied, Ordering::SeqCst);
        self.newest.note(&plan.definition.name, newest);
        Ok(())
    }

    /// Earlier rows that these rows take the place of.
    async fn replaced(
        &self,
        plan: &SourcePlan,
        table: &SourceTable,
        rows: &[StoredRow],
    ) -> Result<Vec<StoredRow>, FeatureError> {
        let first = rows[0].number;
        let mut numbers = BTreeSet::new();
        let mut span: Option<(Timestamp, Timestamp)> = None;
        for row in rows {
            if let Some(number) = row.replaces.filter(|number| *number < first) {
                numbers.insert(number);
                // A row and its correction have the same event time.
                let at = plan.event_time(&row.values);
                span = Some(span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))));
            }
        }
        let Some((from, to)) = span else { return Ok(Vec::new()) };
        self.stored_rows(plan, table, numbers, (from, to)).await
    }

    /// Turns changes of chains into writes: everything from the first change of a chain on is summed anew.
    async fn link(
        &self,
        view: &ViewPlan,
        entities: Entities,
        puts: &mut Vec<Pair>,
        deletes: &mut Vec<Vec<u8>>,
    ) -> Result<(), FeatureError> {
        let mut ask = Vec::with_capacity(entities.len() * 2);
        for (entity, change) in &entities {
            let prefix = entity.len();
            ask.push(Floor { key: chain_end(entity), prefix });
            let mut before = place_key(entity, change.first());
            let _ = step_back(&mut before[prefix..]);
            ask.push(Floor { key: before, prefix });
        }
        let found = self.kv.floor_many(&ask).await.doing("read online values")?;
        for ((entity, mut change), found) in entities.into_iter().zip(found.chunks(2)) {
            let first = change.first();
            let totals = |pair: &Pair| codec::read_totals(&pair.1, view.kept.iter().map(|k| k.squares));
            let zero = || vec![Totals::default(); view.kept.len()];
            let start = place_key(&entity, first);
            // No row can stand before the earliest place there is.
            let before = found[1].as_ref().filter(|pair| pair.0 < start);
            let mut sum = before.map_or_else(|| Ok(zero()), totals)?;
            let mut old = sum.clone();
            if found[0].as_ref().is_some_and(|newest| newest.0 >= start) {
                for pair in self.chain_from(&entity, &start).await? {
                    let place = read_place(&pair.0, entity.len())?;
                    let through = totals(&pair)?;
                    let rest = change.inserts.split_off(&place);
                    for (place, own) in std::mem::replace(&mut change.inserts, rest) {
                        add(&mut sum, &own);
                        puts.push(chain_pair(view, &entity, place, &sum));
                    }
                    let kept = !change.removals.contains(&place) && !change.inserts.contains_key(&place);
                    if kept {
                        let own: Vec<Totals> = through.iter().zip(&old).map(|(t, o)| t.minus(*o)).collect();
                        add(&mut sum, &own);
                        puts.push(chain_pair(view, &entity, place, &sum));
                    } else if change.removals.contains(&place) {
                        deletes.push(pair.0);
                    }
                    old = through;
                }
            }
            for (place, own) in change.inserts {
                add(&mut sum, &own);
                puts.push(chain_pair(view, &entity, place, &sum));
            }
        }
        Ok(())
    }

    async fn chain_from(&self, entity: &[u8], start: &[u8]) -> Result<Vec<Pair>, FeatureError> {
        read_range(&*self.kv, start.to_vec(), &chain_end(entity)).await
    }

    /// Builds a view's layout from all stored rows and marks it complete. The caller holds the table's
    /// `writing` and has caught up.
    ///
    /// # Errors
    /// `Incompatible` when a stored value lies outside the range of exact sums.
    pub(crate) async fn build_view(
        &self,
        plan: &Arc<SourcePlan>,
        view: &Arc<ViewPlan>,
        table: &SourceTable,
    ) -> Result<(), FeatureError> {
        self.drop_layout(view.layout).await?;
        if table.rows() > 0 && !self.build_plain(plan, view, table).await? {
            let needed = view.needed().collect();
            let history = History::load(plan, table, &needed, None, None).await?;
            check_limits(plan, view, &history)?;
            let building = view.clone();
            let (index, history, pairs) = self
                .cpu
                .run(move || {
                    let index = ViewIndex::build(&building, &history)?;
                    let pairs = index.online_pairs(&building, &history)?;
                    Ok::<_, FeatureError>((Arc::new(index), Arc::new(history), pairs))
                })
                .await
                .doing("compute online values")??;
            self.write_pages(pairs).await?;
            let mut first = if view.tiles.is_empty() { None } else { Some(0) };
            while let Some(entity) = first {
                let (index, building, history) = (index.clone(), view.clone(), history.clone());
                let tiles = self.cpu.run(move || index.tile_pairs(&building, &history, entity, PAGE)).await;
                let (pairs, next) = tiles.doing("compute online values")??;
                self.write_pages(pairs).await?;
                first = next;
            }
        }
        self.kv.write(vec![(view.layout.built(), Vec::new())], Vec::new(), true).await.doing("write online values")
    }

    /// Writes pairs of a layout that is not complete yet, a page at a time.
    async fn write_pages(&self, pairs: Vec<Pair>) -> Result<(), FeatureError> {
        let mut pairs = pairs.into_iter();
        loop {
            let page: Vec<Pair> = pairs.by_ref().take(PAGE).collect();
            if page.is_empty() {
                return Ok(());
            }
            self.kv.write(page, Vec::new(), false).await.doing("write online values")?;
        }
    }

    /// Forgets a layout and all its rows.
    pub(crate) async fn drop_layout(&self, layout: Layout) -> Result<(), FeatureError> {
        self.hot.forget(layout);
        self.kv.write(Vec::new(), vec![layout.built()], true).await.doing("clear online values")?;
        for rows in [layout, layout.tiles()] {
            loop {
                let page = self.kv.range(&rows.prefix(), &rows.end(), PAGE).await.doing("clear online values")?;
                if page.is_empty() {
                    break;
                }
                let keys = page.into_iter().map(|(key, _)| key).collect();
                self.kv.write(Vec::new(), keys, false).await.doing("clear online values")?;
            }
        }
        Ok(())
    }

    /// Layouts that are marked complete.
    pub(crate) async fn layouts(&self) -> Result<BTreeSet<Layout>, FeatureError> {
        let (from, to) = Layout::all_built();
        let marks = read_range(&*self.kv, from, &to).await?;
        Ok(marks.iter().filter_map(|(key, _)| Layout::of_built(key)).collect())
    }
}

impl ChainChange {
    /// The first place where the chain changes.
    fn first(&self) -> Place {
        let inserted = self.inserts.keys().next();
        let removed = self.removals.iter().next();
        // A change exists because something was inserted or removed.
        *inserted.into_iter().chain(removed).min().unwrap_or(&(i64::MIN, i64::MIN))
    }
}

/// What rows, and the rows they replace, mean to every view of the source.
fn changes(plan: &SourcePlan, rows: &[StoredRow], old: &[StoredRow]) -> Changes {
    let gone: BTreeSet<i64> = rows.iter().filter_map(|row| row.replaces).collect();
    let mut out = Changes::default();
    for view in &plan.views {
        let mut chains = Entities::new();
        let mut tiles: Vec<TileChanges> = view.tiles.0.iter().map(|_| TileChanges::new()).collect();
        let here = rows.iter().map(|row| (row, gone.contains(&row.number)));
        for (row, gone) in old.iter().map(|row| (row, true)).chain(here) {
            let Some(mut entity) = view.entity_of(&row.values) else { continue };
            let at = plan.event_time(&row.values);
            if view.is_windowed() {
                for (chain, tiles) in view.tiles.0.iter().zip(&mut tiles) {
                    let mut entity = entity.clone();
                    entity[0] = view.layout.tiles().tag;
                    let change = tiles.entry((entity, chain.tile(at.micros()))).or_default();
                    if gone {
                        change.removals.insert((at.micros(), row.number));
                    } else {
                        let created = plan.created(&row.values).map(Timestamp::micros);
                        let brings = TileRow { created, values: chain.values(&row.values) };
                        change.inserts.insert((at.micros(), row.number), brings);
                    }
                }
                let chain = chains.entry(entity).or_default();
                if gone {
                    chain.removals.insert((at.micros(), row.number));
                } else {
                    let own = view.kept.iter().map(|kept| Totals::of(&row.values[kept.at], kept.squares));
                    chain.inserts.insert((at.micros(), row.number), own.collect());
                }
                continue;
            }
            key::push_plain(&mut entity, at, plan.created(&row.values), row.number);
            if gone {
                out.deletes.push(entity);
            } else {
                let value = codec::write_values(view.kept.iter().map(|kept| &row.values[kept.at]));
                out.puts.push((entity, value));
            }
        }
        if !chains.is_empty() {
            out.chains.push((view.clone(), chains));
        }
        for (number, changes) in tiles.into_iter().enumerate().filter(|(_, changes)| !changes.is_empty()) {
            out.tiles.push((view.clone(), number, changes));
        }
    }
    out
}

fn add(sum: &mut [Totals], own: &[Totals]) {
    sum.iter_mut().zip(own).for_each(|(sum, own)| *sum = sum.plus(*own));
}

fn chain_pair(view: &ViewPlan, entity: &[u8], place: Place, sum: &[Totals]) -> Pair {
    (place_key(entity, place), codec::write_totals(sum, view.kept.iter().map(|kept| kept.squares)))
}

fn place_key(entity: &[u8], (at, row): Place) -> Vec<u8> {
    let mut key = entity.to_vec();
    key::push_totals(&mut key, Timestamp::from_micros(at), row);
    key
}

fn read_place(key: &[u8], entity: usize) -> Result<Place, FeatureError> {
    let place = key::read_ordered(key, entity).zip(key::read_ordered(key, entity + 8));
    place.ok_or_else(|| codec::corrupt("a running total without a place".into()))
}

/// Behind every row of the entity.
fn chain_end(entity: &[u8]) -> Vec<u8> {
    let mut key = entity.to_vec();
    key::push_after(&mut key, Timestamp::MAX);
    key
}

/// The bytes' predecessor; all zeros stay as they are.
fn step_back(bytes: &mut [u8]) -> Option<()> {
    let last = bytes.iter().rposition(|byte| *byte > 0)?;
    bytes[last] -= 1;
    bytes[last + 1..].fill(0xFF);
    Some(())
}

/// All pairs in `[from, to)`, page by page.
pub(crate) async fn read_range(kv: &dyn Kv, mut from: Vec<u8>, to: &[u8]) -> Result<Vec<Pair>, FeatureError> {
    let mut all = Vec::new();
    loop {
        let page = kv.range(&from, to, PAGE).await.doing("read online values")?;
        let full = page.len() == PAGE;
        all.extend(page);
        match all.last() {
            Some((last, _)) if full => {
                from.clone_from(last);
                // The least key behind the last one.
                from.push(0);
            }
            _ => return Ok(all),
        }
    }
}

fn check_limits(plan: &SourcePlan, view: &ViewPlan, history: &History) -> Result<(), FeatureError> {
    for (at, limit) in view.limits() {
        let column = history.column(at)?;
        let outside = |row: &usize| !exact::within(&column.get(*row), limit);
        if let Some(row) = (0..history.rows()).find(outside) {
            return Err(FeatureError::Incompatible {
                name: plan.definition.name.to_string(),
                rows: history.rows() as u64,
                reason: format!(
                    "view `{}` cannot aggregate column `{}`: it holds {}, outside ±{limit:e}, the range of exact sums",
                    view.name,
                    plan.names[at],
                    column.get(row).to_json()
                ),
            });
        }
    }
    Ok(())
}
