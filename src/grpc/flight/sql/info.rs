//! What drivers ask about the server and its types.

use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, XdbcDataType,
    metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
};
use tonic::Status;

use super::metadata::unbuilt;

/// `SqlInfo` of the protocol.
pub fn server() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Millpond");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32,
    );
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.build().map_err(unbuilt)
}

/// The types that columns have.
pub fn types() -> Result<XdbcTypeInfoData, Status> {
    let mut all = XdbcTypeInfoDataBuilder::new();
    let (quote, none) = (Some("'"), None);
    for (name, kind, size, literal, radix) in [
        ("BOOLEAN", XdbcDataType::XdbcBit, 1, none, None),
        ("BIGINT", XdbcDataType::XdbcBigint, 64, none, Some(2)),
        ("DOUBLE", XdbcDataType::XdbcDouble, 53, none, Some(2)),
        ("VARCHAR", XdbcDataType::XdbcVarchar, i32::MAX, quote, None),
        ("TIMESTAMP", XdbcDataType::XdbcTimestamp, 32, quote, None),
    ] {
        let numeric = radix.is_some();
        all.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type: kind,
            column_size: Some(size),
            literal_prefix: literal.map(str::to_owned),
            literal_suffix: literal.map(str::to_owned),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: literal.is_some(),
            searchable: Searchable::Full,
            unsigned_attribute: numeric.then_some(false),
            fixed_prec_scale: false,
            auto_increment: numeric.then_some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: kind,
            datetime_subcode: None,
            num_prec_radix: radix,
            interval_precision: None,
        });
    }
    all.build().map_err(unbuilt)
}
