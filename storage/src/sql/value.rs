//! Values on their way into a statement and out of a row.

use std::{borrow::Cow, fmt};

use sqlx::{
    Database, Decode, Encode, Postgres, Sqlite, Type, TypeInfo as _, ValueRef as _,
    encode::IsNull,
    error::{BoxDynError, UnexpectedNullError},
    postgres::{PgValue, PgValueRef},
    sqlite::{SqliteValue, SqliteValueRef},
};

use super::{Db, Of};

/// What a value is, as far as both databases tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeInfo {
    Null,
    Int,
    Real,
    Text,
    Bytes,
}

impl fmt::Display for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(sqlx::TypeInfo::name(self))
    }
}

impl sqlx::TypeInfo for TypeInfo {
    fn is_null(&self) -> bool {
        *self == Self::Null
    }

    fn name(&self) -> &str {
        match self {
            Self::Null => "NULL",
            Self::Int => "BIGINT",
            Self::Real => "DOUBLE PRECISION",
            Self::Text => "TEXT",
            Self::Bytes => "BYTES",
        }
    }
}

/// A value for a place of a statement. Absent ones keep their type: Postgres plans a statement for the types it
/// meets first.
#[derive(Debug)]
pub enum Argument {
    Int(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// The values of a statement, in the order of its places.
#[derive(Debug, Default)]
pub struct Arguments(Vec<Argument>);

impl Arguments {
    /// The same values for one database's own driver.
    pub(super) fn native<DB: Database>(self) -> Result<DB::Arguments, BoxDynError>
    where
        Option<i64>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<f64>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<String>: for<'q> Encode<'q, DB> + Type<DB>,
        Option<Vec<u8>>: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let mut native = DB::Arguments::default();
        sqlx::Arguments::reserve(&mut native, self.0.len(), 16 * self.0.len());
        for argument in self.0 {
            match argument {
                Argument::Int(value) => sqlx::Arguments::add(&mut native, value)?,
                Argument::Real(value) => sqlx::Arguments::add(&mut native, value)?,
                Argument::Text(value) => sqlx::Arguments::add(&mut native, value)?,
                Argument::Bytes(value) => sqlx::Arguments::add(&mut native, value)?,
            }
        }
        Ok(native)
    }
}

impl sqlx::Arguments for Arguments {
    type Database = Db;

    fn reserve(&mut self, additional: usize, _bytes: usize) {
        self.0.reserve(additional);
    }

    fn add<'t, T: Encode<'t, Db> + Type<Db>>(&mut self, value: T) -> Result<(), BoxDynError> {
        let _: IsNull = value.encode(&mut self.0)?;
        Ok(())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn format_placeholder<W: fmt::Write>(&self, writer: &mut W) -> fmt::Result {
        write!(writer, "${}", self.0.len())
    }
}

impl sqlx::IntoArguments<Db> for Arguments {
    fn into_arguments(self) -> Self {
        self
    }
}

/// A value of a row.
#[derive(Clone)]
pub struct Value(Of<SqliteValue, PgValue>);

impl sqlx::Value for Value {
    type Database = Db;

    fn as_ref(&self) -> ValueRef<'_> {
        ValueRef(match &self.0 {
            Of::Sqlite(value) => Of::Sqlite(value.as_ref()),
            Of::Postgres(value) => Of::Postgres(value.as_ref()),
        })
    }

    fn type_info(&self) -> Cow<'_, TypeInfo> {
        Cow::Owned(sqlx::Value::as_ref(self).kind())
    }

    fn is_null(&self) -> bool {
        sqlx::Value::as_ref(self).is_null()
    }
}

/// A value inside a row.
pub struct ValueRef<'r>(pub(super) Of<SqliteValueRef<'r>, PgValueRef<'r>>);

impl ValueRef<'_> {
    fn kind(&self) -> TypeInfo {
        if self.is_null() {
            return TypeInfo::Null;
        }
        match &self.0 {
            Of::Sqlite(value) => kind(value.type_info().name()),
            Of::Postgres(value) => kind(value.type_info().name()),
        }
    }
}

/// What both databases' names for types amount to; anything else is read as text or not at all.
fn kind(name: &str) -> TypeInfo {
    match name {
        "NULL" => TypeInfo::Null,
        "INTEGER" | "INT8" | "INT4" | "INT2" | "BOOLEAN" | "BOOL" => TypeInfo::Int,
        "REAL" | "FLOAT8" | "FLOAT4" => TypeInfo::Real,
        "BLOB" | "BYTEA" => TypeInfo::Bytes,
        _ => TypeInfo::Text,
    }
}

impl<'r> sqlx::ValueRef<'r> for ValueRef<'r> {
    type Database = Db;

    fn to_owned(&self) -> Value {
        Value(match &self.0 {
            Of::Sqlite(value) => Of::Sqlite(sqlx::ValueRef::to_owned(value)),
            Of::Postgres(value) => Of::Postgres(sqlx::ValueRef::to_owned(value)),
        })
    }

    fn type_info(&self) -> Cow<'_, TypeInfo> {
        Cow::Owned(self.kind())
    }

    fn is_null(&self) -> bool {
        match &self.0 {
            Of::Sqlite(value) => value.is_null(),
            Of::Postgres(value) => value.is_null(),
        }
    }
}

/// Reads a value with the database's own driver, which says whether the types fit. A NULL fits nothing: SQLite's
/// driver would read it as 0 or as an empty text.
fn read<'r, T, DB>(value: DB::ValueRef<'r>) -> Result<T, BoxDynError>
where
    DB: Database,
    T: Decode<'r, DB> + Type<DB>,
{
    if value.is_null() {
        return Err(Box::new(UnexpectedNullError));
    }
    let found = value.type_info();
    if !T::compatible(&found) {
        return Err(unfit(found.name(), T::type_info().name()));
    }
    drop(found);
    T::decode(value)
}

fn unfit(found: &str, wanted: &str) -> BoxDynError {
    format!("a value of type {found} cannot be read as {wanted}").into()
}

/// Any whole number or truth value.
fn whole(value: ValueRef<'_>) -> Result<i64, BoxDynError> {
    match value.0 {
        Of::Sqlite(value) => read::<i64, Sqlite>(value),
        Of::Postgres(value) => {
            let bits = match value.type_info().name() {
                "BOOL" => 1,
                "INT2" => 16,
                "INT4" => 32,
                _ => 64,
            };
            match bits {
                1 => read::<bool, Postgres>(value).map(i64::from),
                16 => read::<i16, Postgres>(value).map(i64::from),
                32 => read::<i32, Postgres>(value).map(i64::from),
                _ => read::<i64, Postgres>(value),
            }
        }
    }
}

impl Type<Db> for i64 {
    fn type_info() -> TypeInfo {
        TypeInfo::Int
    }
}

impl Encode<'_, Db> for i64 {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        places.push(Argument::Int(Some(*self)));
        Ok(IsNull::No)
    }
}

impl Decode<'_, Db> for i64 {
    fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
        whole(value)
    }
}

macro_rules! narrower {
    ($($number:ty),+) => {$(
        impl Type<Db> for $number {
            fn type_info() -> TypeInfo {
                TypeInfo::Int
            }
        }

        impl Encode<'_, Db> for $number {
            fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
                places.push(Argument::Int(Some(i64::from(*self))));
                Ok(IsNull::No)
            }
        }

        impl Decode<'_, Db> for $number {
            fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
                Ok(Self::try_from(whole(value)?)?)
            }
        }
    )+};
}

narrower!(i32, u32, u16, u8);

impl Type<Db> for bool {
    fn type_info() -> TypeInfo {
        TypeInfo::Int
    }
}

impl Encode<'_, Db> for bool {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        places.push(Argument::Int(Some(i64::from(*self))));
        Ok(IsNull::No)
    }
}

impl Decode<'_, Db> for bool {
    fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(whole(value)? != 0)
    }
}

impl Type<Db> for f64 {
    fn type_info() -> TypeInfo {
        TypeInfo::Real
    }
}

impl Encode<'_, Db> for f64 {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        places.push(Argument::Real((!self.is_nan()).then_some(*self)));
        Ok(IsNull::No)
    }
}

impl Decode<'_, Db> for f64 {
    fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.0 {
            // As when SQLite adds up no rows: `COALESCE(SUM(x), 0)`.
            Of::Sqlite(value) if <i64 as Type<Sqlite>>::compatible(&value.type_info()) => {
                Ok(read::<i64, Sqlite>(value)? as Self)
            }
            Of::Sqlite(value) => read::<Self, Sqlite>(value),
            Of::Postgres(value) => read::<Self, Postgres>(value),
        }
    }
}

/// Refused on both databases, because Postgres cannot store it.
fn without_nul(text: &str) -> Result<(), BoxDynError> {
    if text.as_bytes().contains(&0) { Err("the text holds a NUL character".into()) } else { Ok(()) }
}

impl Type<Db> for str {
    fn type_info() -> TypeInfo {
        TypeInfo::Text
    }
}

impl Encode<'_, Db> for &'_ str {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        without_nul(self)?;
        places.push(Argument::Text(Some((*self).to_owned())));
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Db> for &'r str {
    fn decode(value: ValueRef<'r>) -> Result<Self, BoxDynError> {
        match value.0 {
            Of::Sqlite(value) => read::<Self, Sqlite>(value),
            Of::Postgres(value) => read::<Self, Postgres>(value),
        }
    }
}

impl Type<Db> for String {
    fn type_info() -> TypeInfo {
        TypeInfo::Text
    }
}

impl Encode<'_, Db> for String {
    fn encode(self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        without_nul(&self)?;
        places.push(Argument::Text(Some(self)));
        Ok(IsNull::No)
    }

    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        <&str as Encode<'_, Db>>::encode(self, places)
    }
}

impl Decode<'_, Db> for String {
    fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.0 {
            Of::Sqlite(value) => read::<Self, Sqlite>(value),
            Of::Postgres(value) => read::<Self, Postgres>(value),
        }
    }
}

impl Type<Db> for [u8] {
    fn type_info() -> TypeInfo {
        TypeInfo::Bytes
    }
}

impl Type<Db> for Vec<u8> {
    fn type_info() -> TypeInfo {
        TypeInfo::Bytes
    }
}

impl Encode<'_, Db> for &'_ [u8] {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        places.push(Argument::Bytes(Some(self.to_vec())));
        Ok(IsNull::No)
    }
}

impl Encode<'_, Db> for Vec<u8> {
    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        places.push(Argument::Bytes(Some(self.clone())));
        Ok(IsNull::No)
    }
}

impl Decode<'_, Db> for Vec<u8> {
    fn decode(value: ValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.0 {
            Of::Sqlite(value) => read::<Self, Sqlite>(value),
            Of::Postgres(value) => read::<Self, Postgres>(value),
        }
    }
}

impl<'q, T: Encode<'q, Db> + Type<Db>> Encode<'q, Db> for Option<T> {
    fn encode(self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        match self {
            Some(value) => value.encode(places),
            None => Ok(absent(places, &T::type_info())),
        }
    }

    fn encode_by_ref(&self, places: &mut Vec<Argument>) -> Result<IsNull, BoxDynError> {
        match self {
            Some(value) => value.encode_by_ref(places),
            None => Ok(absent(places, &T::type_info())),
        }
    }
}

fn absent(places: &mut Vec<Argument>, kind: &TypeInfo) -> IsNull {
    places.push(match kind {
        TypeInfo::Int => Argument::Int(None),
        TypeInfo::Real => Argument::Real(None),
        TypeInfo::Bytes => Argument::Bytes(None),
        TypeInfo::Text | TypeInfo::Null => Argument::Text(None),
    });
    IsNull::Yes
}
