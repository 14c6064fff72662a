//! Who runs point-in-time joins, as settings say.

use anyhow::Context as _;
use feature_store::{JoinPlace, Remote, Spark, SparkAddress};
use runtime::config::{Joins, Place};

use crate::app::mendable;

/// The Spark server of the settings. It is not asked anything yet.
///
/// # Errors
/// An address or a file that cannot be used, and settings that contradict each other.
pub fn remote(settings: &Joins) -> anyhow::Result<Remote> {
    let place = match settings.place {
        Place::Auto => JoinPlace::Auto,
        Place::Local => JoinPlace::Local,
        Place::Spark => JoinPlace::Spark,
    };
    let Some(url) = &settings.spark_url else {
        anyhow::ensure!(place != JoinPlace::Spark, "joins.place is spark and joins.spark_url is not set: set it");
        return Ok(Remote { spark: None, place });
    };
    let mut address: SparkAddress = url.reveal().parse().context("joins.spark_url")?;
    if let Some(file) = &settings.spark_token_file {
        let read = || format!("could not read joins.spark_token_file `{}`", file.display());
        let token = std::fs::read_to_string(file).with_context(read)?;
        address = address.with_token(token.trim()).context("joins.spark_token_file")?;
    }
    let authorities = settings.spark_ca_file.as_ref().map(|file| {
        std::fs::read(file).with_context(|| format!("could not read joins.spark_ca_file `{}`", file.display()))
    });
    let authorities = authorities.transpose()?;
    let spark = Spark::new(address, authorities.as_deref(), settings.spark_deadline.to_std()).map_err(mendable)?;
    Ok(Remote { spark: Some(spark), place })
}
