//! Joins on a Spark Connect server: the suites of the own engine, row for row, and what goes wrong with a server.
//!
//! Sail with two workers, or Apache Spark where `MILLPOND_TEST_SPARK` says so (`make test-extra`).

mod as_of;
mod faults;
mod places;

use proptest::{prelude::*, test_runner::RngSeed};

use crate::{
    dataset, join, leakage, offline,
    spark_server::{SparkServer, apache},
    windows,
    world::on_spark,
};

/// Apache Spark needs seconds for a case.
fn cases(sail: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if apache() { sail.div_ceil(4) } else { sail },
        rng_seed: RngSeed::Fixed(20_261_127),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn shared(suite: impl FnOnce()) {
    on_spark(&SparkServer::shared().address, suite);
}

proptest! {
    #![proptest_config(cases(6))]
    #[test]
    fn joins_on_spark_agree_with_online_and_the_naive_reference(
        batches in prop::collection::vec(prop::collection::vec(join::row(), 0..40), 1..4),
        questions in prop::collection::vec(join::question(), 1..80),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        on_spark(&SparkServer::shared().address, || runtime.block_on(join::agrees(&batches, &questions)))?;
    }

    #[test]
    fn windows_on_spark_agree_with_online_and_the_naive_reference(
        steps in prop::collection::vec(windows::step(), 1..16),
        questions in prop::collection::vec(windows::question(), 1..40),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        on_spark(&SparkServer::shared().address, || runtime.block_on(windows::agree(&steps, &questions)))?;
    }
}

#[test]
fn the_suite_of_joins_passes_on_spark() {
    shared(|| {
        join::as_of_is_inclusive_and_one_microsecond_earlier_is_not();
        join::every_question_comes_out_once_in_its_order_duplicates_included();
        join::a_correction_takes_its_rows_place_in_every_window();
        join::a_view_built_later_sums_rows_of_one_instant_whatever_their_time_of_writing();
        leakage::no_change_of_the_future_reaches_features_as_of_now();
    });
}

#[test]
fn the_suite_of_windows_passes_on_spark() {
    shared(|| {
        windows::default_hops_follow_the_length_of_the_window();
        windows::a_tumbling_window_takes_a_row_at_midnight_into_the_day_that_begins();
    });
}

#[test]
fn the_suite_of_training_sets_passes_on_spark() {
    shared(|| {
        dataset::a_dataset_holds_the_labelled_rows_of_its_window_and_nothing_later();
        dataset::the_newest_label_counts_and_a_reviewers_outranks_it();
        dataset::a_datasets_features_are_those_the_ports_give();
        dataset::an_empty_dataset_still_has_its_columns();
    });
}

#[test]
fn the_suite_of_offline_tables_passes_on_spark() {
    shared(|| {
        offline::sealing_compaction_and_vacuum_change_no_answer();
        offline::a_row_that_was_dropped_is_still_known_as_a_duplicate_and_can_be_corrected_again();
        offline::a_new_column_joins_the_same_table();
        offline::a_training_set_is_built_again_after_corrections_and_compactions_until_a_vacuum();
    });
}
