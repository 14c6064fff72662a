//! From predictions and labels to reports and alerts.

mod common;

use common::*;
use domain::{EventKind, Span, state::AlertState};
use evaluator::{AlertFilter, Bucket, QualityQuery, Rule, Verdict};

fn open_alerts() -> AlertFilter {
    AlertFilter { endpoint: Some(endpoint()), state: Some(AlertState::Open), limit: 0 }
}

#[tokio::test]
async fn steady_data_raises_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, &rows(1, 0..24 * 9, 20, 0.0)).await;
    let reports = world.evaluator.reports(&endpoint(), None, None).await.unwrap();
    assert_eq!(reports.len(), 8);
    for report in &reports {
        assert_eq!(report.fired, [], "{:?}", report.rules);
        assert_eq!((report.rows, report.champion_quality.labelled), (480, 480));
        assert!(report.columns.iter().all(|c| c.verdict == evaluator::DriftVerdict::Stable), "{:?}", report.columns);
        assert!(report.weighted_psi.unwrap() < 0.15, "{:?}", report.weighted_psi);
    }
    assert!(world.evaluator.alerts(AlertFilter::default()).await.unwrap().is_empty());
    assert!(world.story().await.is_empty());
    world.close().await;
}

#[tokio::test]
async fn two_bad_windows_of_three_raise_one_alert_that_names_its_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    // Three good days, then the rate rises and stays.
    play(&world.evaluator, &rows(2, 0..72, 20, 0.0)).await;
    play(&world.evaluator, &rows(3, 72..97, 20, 0.25)).await;
    play(&world.evaluator, &rows(3, 97..99, 1, 0.25)).await;
    assert!(world.evaluator.alerts(open_alerts()).await.unwrap().is_empty(), "one bad window is not enough");
    play(&world.evaluator, &rows(4, 99..123, 20, 0.25)).await;
    let alerts = world.evaluator.alerts(open_alerts()).await.unwrap();
    let bias = alerts.iter().find(|a| a.rule == Rule::Bias).expect("the bias persists");
    assert!(bias.value < -0.15 && bias.p.unwrap() < 0.01, "{bias:?}");
    assert_eq!((bias.window_start, bias.window_end, bias.champion), (at(96), at(120), 1));

    let events = world.story().await;
    let raised: Vec<_> = events.iter().filter(|e| e.kind == EventKind::AlertRaised).collect();
    assert_eq!(raised.len(), alerts.len(), "each alert is told of once");
    let body = &raised.iter().find(|e| e.body["rule"] == "bias").unwrap().body;
    assert_eq!(body["alert"], bias.id.to_string());
    assert_eq!(body["endpoint"], "pumps");
    assert_eq!(body["window_end"], at(120).to_string());
    assert_eq!(body["limit"], 0.05);
    assert_eq!(body["champion"], 1);
    assert!(body["watermark"].as_str().unwrap() >= at(122).to_string().as_str());
    let verdicts: Vec<_> = body["windows"].as_array().unwrap().iter().map(|w| w["verdict"].clone()).collect();
    assert_eq!(verdicts, ["quiet", "fired", "fired"]);
    world.close().await;
}

#[tokio::test]
async fn a_lasting_fault_is_told_of_again_each_window_and_cleared_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, &rows(5, 0..24 * 4, 20, 0.3)).await;
    play(&world.evaluator, &rows(6, 24 * 4..24 * 8, 20, 0.0)).await;
    let alerts = world.evaluator.alerts(AlertFilter::default()).await.unwrap();
    let bias: Vec<_> = alerts.iter().filter(|a| a.rule == Rule::Bias).collect();
    assert_eq!(bias.len(), 1, "one alert for one fault");
    assert_eq!((bias[0].state, bias[0].repeats), (AlertState::Cleared, 2), "{:?}", bias[0]);
    assert_eq!(bias[0].cleared_because.as_deref(), Some("quiet windows"));
    let events = world.story().await;
    let subject = format!("alert/{}", bias[0].id);
    let kinds: Vec<_> = events.iter().filter(|e| e.subject == subject).map(|e| e.kind).collect();
    use EventKind::{AlertCleared, AlertRaised};
    assert_eq!(kinds, [AlertRaised, AlertRaised, AlertRaised, AlertCleared]);
    let cleared = events.iter().rfind(|e| e.subject == subject).unwrap();
    let told = events.iter().rfind(|e| e.subject == subject && e.kind == AlertRaised).unwrap();
    assert_eq!(cleared.cause, Some(told.seq));
    world.close().await;
}

#[tokio::test]
async fn a_new_champion_starts_with_a_clean_slate() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, &rows(7, 0..24 * 3 + 12, 20, 0.3)).await;
    assert!(!world.evaluator.alerts(open_alerts()).await.unwrap().is_empty());
    world.evaluator.configure(watch(2)).await.unwrap();
    assert!(world.evaluator.alerts(open_alerts()).await.unwrap().is_empty());
    let alerts = world.evaluator.alerts(AlertFilter::default()).await.unwrap();
    assert!(alerts.iter().all(|a| a.cleared_because.as_deref() == Some("new champion")));

    // Version 2 shadows and knows of the rise: nothing fires, and the half window has only its own rows.
    play(&world.evaluator, &rows(8, 24 * 3 + 13..24 * 6, 20, 0.3)).await;
    let reports = world.evaluator.reports(&endpoint(), Some(at(24 * 4)), None).await.unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!((reports[0].champion, reports[0].champion_quality.labelled), (2, 11 * 20));
    assert_eq!(reports[0].served_quality.labelled, 23 * 20);
    assert!(reports.iter().all(|r| r.fired.is_empty()), "{reports:?}");
    // Configured again with the same champion, nothing changes.
    let before = world.evaluator.status(&endpoint()).await.unwrap();
    world.evaluator.configure(watch(2)).await.unwrap();
    assert_eq!(world.evaluator.status(&endpoint()).await.unwrap(), before);
    world.close().await;
}

#[tokio::test]
async fn few_labels_say_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, &rows(9, 0..24 * 4, 4, 0.4)).await;
    let reports = world.evaluator.reports(&endpoint(), None, None).await.unwrap();
    assert_eq!(reports.len(), 3);
    let verdicts = || reports.iter().flat_map(|r| &r.rules).map(|r| r.verdict);
    assert!(verdicts().all(|v| v == Verdict::InsufficientData));
    assert!(reports.iter().flat_map(|r| &r.columns).all(|c| c.verdict == evaluator::DriftVerdict::InsufficientData));
    assert!(world.evaluator.alerts(AlertFilter::default()).await.unwrap().is_empty());
    world.close().await;
}

#[tokio::test]
async fn drift_of_what_matters_fires_and_drift_of_what_does_not_only_shows() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let mut definition = definition();
    definition.monitor.max_weighted_psi = Some(0.3);
    world.evaluator.configure(watch_as(definition, 1)).await.unwrap();
    let mut sites = rows(10, 0..26, 20, 0.0);
    sites.iter_mut().for_each(|row| row.site = Some("west"));
    play(&world.evaluator, &sites).await;
    let mut heat = rows(11, 26..50, 20, 0.0);
    heat.iter_mut().for_each(|row| row.heat = row.heat.map(|h| 0.5 + h / 2.0));
    heat.iter_mut().step_by(10).for_each(|row| row.heat = None);
    play(&world.evaluator, &heat).await;
    let reports = world.evaluator.reports(&endpoint(), None, None).await.unwrap();
    let column = |report: usize, name: &str| reports[report].columns.iter().find(|c| c.name == name).unwrap();
    assert_eq!(column(0, "site").verdict, evaluator::DriftVerdict::Drifted);
    assert_eq!(column(0, "heat").verdict, evaluator::DriftVerdict::Stable);
    assert_eq!(reports[0].fired, []);
    assert_eq!(column(1, "heat").verdict, evaluator::DriftVerdict::Drifted);
    assert!((column(1, "heat").null_shift.unwrap() - 0.1).abs() < 0.02);
    assert!(column(1, "heat").ks.unwrap() > 0.4);
    assert_eq!(reports[1].fired, [Rule::WeightedPsi]);
    assert_eq!(reports[1].columns[0].name, "heat", "the column that matters comes first");
    world.close().await;
}

#[tokio::test]
async fn the_same_messages_give_the_same_reports() {
    let mut seen = Vec::new();
    let rows = rows(12, 0..24 * 5, 20, 0.1);
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let world = World::open(dir.path()).await;
        world.evaluator.configure(watch(1)).await.unwrap();
        play(&world.evaluator, &rows).await;
        seen.push(world.evaluator.reports(&endpoint(), None, None).await.unwrap());
        world.close().await;
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 4);
}

#[tokio::test]
async fn a_restart_remembers_everything() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    let rows = rows(13, 0..24 * 6, 20, 0.3);
    let (first, second) = rows.split_at(20 * (24 * 3 + 12));
    play(&world.evaluator, first).await;
    let query = || QualityQuery { bucket: Bucket::Day, slice: Some("site".to_owned()), ..QualityQuery::default() };
    let before = (
        world.evaluator.quality(&endpoint(), query()).await.unwrap(),
        world.evaluator.alerts(AlertFilter::default()).await.unwrap(),
        world.evaluator.status(&endpoint()).await.unwrap(),
    );
    assert!(!before.1.is_empty());
    world.close().await;

    let world = World::open(dir.path()).await;
    let after = (
        world.evaluator.quality(&endpoint(), query()).await.unwrap(),
        world.evaluator.alerts(AlertFilter::default()).await.unwrap(),
        world.evaluator.status(&endpoint()).await.unwrap(),
    );
    assert_eq!(before, after);
    world.evaluator.configure(watch(1)).await.unwrap();
    assert_eq!(world.evaluator.alerts(AlertFilter::default()).await.unwrap(), before.1);
    play(&world.evaluator, second).await;
    let resumed = world.evaluator.reports(&endpoint(), None, None).await.unwrap();
    world.close().await;

    // A process that never stopped saw the same.
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, first).await;
    play(&world.evaluator, second).await;
    assert_eq!(world.evaluator.reports(&endpoint(), None, None).await.unwrap(), resumed);
    let alerts = world.evaluator.alerts(AlertFilter::default()).await.unwrap();
    assert_eq!(alerts.len(), before.1.len(), "the restart raised nothing twice");
    world.close().await;
}

#[tokio::test]
async fn a_gap_in_event_time_is_passed_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let mut definition = definition();
    definition.monitor.every = Span::from_micros(60_000_000);
    definition.monitor.window = Span::from_micros(60_000_000);
    world.evaluator.configure(watch_as(definition, 1)).await.unwrap();
    play(&world.evaluator, &rows(14, 0..1, 2, 0.0)).await;
    play(&world.evaluator, &rows(15, 24 * 3_650..24 * 3_650 + 4, 1, 0.0)).await;
    let reports = world.evaluator.reports(&endpoint(), None, None).await.unwrap();
    assert_eq!(reports.len(), 4, "windows without predictions are skipped");
    assert_eq!(reports[2].window_end, at(24 * 3_650) + Span::from_micros(60_000_000));
    world.close().await;
}
