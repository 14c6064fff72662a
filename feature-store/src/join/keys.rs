//! Key columns of any type as words or bytes that are equal exactly when the keys are.

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, BinaryArray, BinaryViewArray, LargeBinaryArray},
    buffer::{NullBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{BinaryType, BinaryViewType, DataType, Float64Type, Int64Type, LargeBinaryType, TimeUnit, UInt64Type},
    error::ArrowError,
};

use super::{
    hash::Hashing,
    time::{self, unit_of},
};

/// What a key column of the spine is compared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    /// `signed` is false for 64-bit numbers without a sign.
    Int {
        signed: bool,
    },
    /// By their bits, as doubles.
    Float,
    Bool,
    Date,
    Text,
    Time(TimeUnit),
}

impl KeyType {
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        use DataType as T;
        Some(match data_type {
            T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => Self::Int { signed: true },
            T::UInt64 => Self::Int { signed: false },
            T::Float16 | T::Float32 | T::Float64 => Self::Float,
            T::Boolean => Self::Bool,
            T::Date32 | T::Date64 => Self::Date,
            T::Utf8
            | T::LargeUtf8
            | T::Utf8View
            | T::Binary
            | T::LargeBinary
            | T::BinaryView
            | T::FixedSizeBinary(_) => Self::Text,
            T::Timestamp(unit, _) => Self::Time(*unit),
            T::Dictionary(_, values) => Self::of(values)?,
            _ => return None,
        })
    }

    /// Whether keys of these types can be equal at all.
    pub(super) const fn meets(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Int { .. }, Self::Int { .. })
                | (Self::Float, Self::Float)
                | (Self::Bool, Self::Bool)
                | (Self::Date, Self::Date)
                | (Self::Text, Self::Text)
                | (Self::Time(_), Self::Time(_))
        )
    }
}

/// One key column of some rows.
pub(super) struct Cells {
    pub(super) values: Values,
    /// Rows that are null here equal nothing.
    pub(super) nulls: Option<NullBuffer>,
}

pub(super) enum Values {
    Words(ScalarBuffer<u64>),
    Bytes(Bytes),
}

pub(super) enum Bytes {
    Small(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
    /// Each row's position among the values.
    Of(Vec<usize>, Box<Self>),
}

impl Bytes {
    #[inline]
    pub(super) fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Small(array) => array.value(row),
            Self::Large(array) => array.value(row),
            Self::View(array) => array.value(row),
            Self::Of(keys, values) => values.get(keys[row]),
        }
    }

    fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        Ok(match array.data_type() {
            DataType::LargeUtf8 | DataType::LargeBinary => {
                Self::Large(cast(array, &DataType::LargeBinary)?.as_bytes::<LargeBinaryType>().clone())
            }
            DataType::Utf8View | DataType::BinaryView => {
                Self::View(cast(array, &DataType::BinaryView)?.as_byte_view::<BinaryViewType>().clone())
            }
            DataType::Dictionary(..) => {
                let dictionary = array.as_any_dictionary();
                let values = Box::new(Self::of(dictionary.values())?);
                // All rows are null where there are no values.
                let keys = if dictionary.values().is_empty() { Vec::new() } else { dictionary.normalized_keys() };
                Self::Of(keys, values)
            }
            _ => Self::Small(cast(array, &DataType::Binary)?.as_bytes::<BinaryType>().clone()),
        })
    }
}

impl Cells {
    /// The column, to be compared with a key of the spine. Values that no key of the spine can equal are null.
    pub(super) fn of(array: &ArrayRef, spine: KeyType) -> Result<Self, ArrowError> {
        let nulls = array.logical_nulls();
        if spine == KeyType::Text {
            return Ok(Self { values: Values::Bytes(Bytes::of(array)?), nulls });
        }
        let array = match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values)?,
            _ => array.clone(),
        };
        let words = |array: &ArrayRef| -> Result<ScalarBuffer<u64>, ArrowError> {
            let array = cast(array, &DataType::Int64)?;
            Ok(array.as_primitive::<Int64Type>().values().inner().clone().into())
        };
        let (values, nulls) = match spine {
            KeyType::Float => {
                let array = cast(&array, &DataType::Float64)?;
                (array.as_primitive::<Float64Type>().values().inner().clone().into(), nulls)
            }
            KeyType::Int { signed } if signed != (*array.data_type() != DataType::UInt64) => {
                // Beyond what the other type can hold: the highest bit says so on either side.
                let values = match array.as_primitive_opt::<UInt64Type>() {
                    Some(array) => array.values().clone(),
                    None => words(&array)?,
                };
                let both: NullBuffer = values.iter().map(|word| *word >> 63 == 0).collect::<Vec<bool>>().into();
                (values, NullBuffer::union(nulls.as_ref(), Some(&both)))
            }
            KeyType::Int { signed: false } => (array.as_primitive::<UInt64Type>().values().clone(), nulls),
            KeyType::Date => (words(&cast(&cast(&array, &DataType::Date32)?, &DataType::Int32)?)?, nulls),
            KeyType::Time(unit) => return Ok(Self::instants(&array, unit, nulls)),
            _ => (words(&array)?, nulls),
        };
        Ok(Self { values: Values::Words(values), nulls })
    }

    /// Instants in the spine's unit; one that falls between two of its ticks equals none.
    fn instants(array: &ArrayRef, unit: TimeUnit, nulls: Option<NullBuffer>) -> Self {
        let from = unit_of(array.data_type()).unwrap_or(unit);
        let ticks = time::ticks(array, from);
        if from == unit {
            return Self { values: Values::Words(ticks.into_inner().into()), nulls };
        }
        let (from, to) = (i128::from(time::tick(from)), i128::from(time::tick(unit)));
        let whole = |t: &i64| -> Option<u64> {
            let nanos = i128::from(*t) * from;
            let ticks = i64::try_from(nanos / to).ok().filter(|_| nanos % to == 0)?;
            Some(ticks.cast_unsigned())
        };
        let words: Vec<Option<u64>> = ticks.iter().map(whole).collect();
        let exact: NullBuffer = words.iter().map(Option::is_some).collect::<Vec<bool>>().into();
        let values: ScalarBuffer<u64> = words.into_iter().map(Option::unwrap_or_default).collect();
        Self { values: Values::Words(values), nulls: NullBuffer::union(nulls.as_ref(), Some(&exact)) }
    }

    /// Adds this column to the hashes of the rows' keys.
    fn hash(&self, hashing: Hashing, first: bool, hashes: &mut Vec<u64>) {
        let mut put = |row: usize, hash: u64| {
            if first {
                hashes.push(hash);
            } else {
                hashes[row] = hashing.both(hashes[row], hash);
            }
        };
        match &self.values {
            Values::Words(words) => words.iter().enumerate().for_each(|(row, word)| put(row, hashing.word(*word))),
            Values::Bytes(Bytes::Of(keys, values)) => {
                let distinct = keys.iter().max().map_or(0, |max| max + 1);
                let known: Vec<u64> = (0..distinct).map(|at| hashing.bytes(values.get(at))).collect();
                keys.iter().enumerate().for_each(|(row, key)| put(row, known[*key]));
            }
            Values::Bytes(bytes) => {
                let rows = match bytes {
                    Bytes::Small(array) => array.len(),
                    Bytes::Large(array) => array.len(),
                    Bytes::View(array) => array.len(),
                    Bytes::Of(keys, _) => keys.len(),
                };
                (0..rows).for_each(|row| put(row, hashing.bytes(bytes.get(row))));
            }
        }
    }
}

/// The keys of some rows, all columns together.
pub(super) struct Keys {
    pub(super) columns: Vec<Cells>,
    /// Rows with a null in no column; `None`: all.
    pub(super) whole: Option<NullBuffer>,
}

impl Keys {
    pub(super) fn new(columns: Vec<Cells>) -> Self {
        let whole = columns.iter().fold(None, |all, cells| NullBuffer::union(all.as_ref(), cells.nulls.as_ref()));
        Self { columns, whole }
    }

    /// The hash of every row, in place of what `hashes` held.
    pub(super) fn hash(&self, hashing: Hashing, rows: usize, hashes: &mut Vec<u64>) {
        hashes.clear();
        hashes.reserve(rows);
        for (at, cells) in self.columns.iter().enumerate() {
            cells.hash(hashing, at == 0, hashes);
        }
        // A dictionary without values has no hashes to give, and views without keys have one key.
        hashes.resize(rows, 0);
    }

    /// The column's words, when it is the only one and of a fixed width.
    pub(super) fn one_word(&self) -> Option<&[u64]> {
        match self.columns.as_slice() {
            [Cells { values: Values::Words(words), .. }] => Some(words),
            _ => None,
        }
    }
}

/// The distinct keys of a spine.
pub(super) struct KeyStore {
    /// Columns of one word, and all their words, key by key: one place in memory for each key.
    word_columns: usize,
    words: Vec<u64>,
    texts: Vec<Texts>,
}

struct Texts {
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl KeyStore {
    pub(super) fn new(types: &[KeyType]) -> Self {
        let texts = types.iter().filter(|key| **key == KeyType::Text).count();
        let empty = || Texts { ends: vec![0], bytes: Vec::new() };
        Self {
            word_columns: types.len() - texts,
            words: Vec::new(),
            texts: std::iter::repeat_with(empty).take(texts).collect(),
        }
    }

    pub(super) fn push(&mut self, keys: &Keys, row: usize) {
        let mut texts = self.texts.iter_mut();
        for cells in &keys.columns {
            match &cells.values {
                Values::Words(words) => self.words.push(words[row]),
                Values::Bytes(bytes) => {
                    if let Some(text) = texts.next() {
                        text.bytes.extend_from_slice(bytes.get(row));
                        text.ends.push(text.bytes.len());
                    }
                }
            }
        }
    }

    pub(super) fn equal(&self, at: usize, keys: &Keys, row: usize) -> bool {
        let mut known = self.words[at * self.word_columns..(at + 1) * self.word_columns].iter();
        let mut texts = self.texts.iter();
        keys.columns.iter().all(|cells| match &cells.values {
            Values::Words(words) => known.next() == Some(&words[row]),
            Values::Bytes(bytes) => {
                texts.next().is_some_and(|text| text.bytes[text.ends[at]..text.ends[at + 1]] == *bytes.get(row))
            }
        })
    }
}
