//! The log: labels join, quality is exact, full queues are counted, people are asked.

mod common;

use std::collections::BTreeMap;

use common::*;
use domain::{
    Coded, ErrorCode, EventKind, PredictionId, Span,
    ports::PredictionTap,
    prediction::{Label, LabelOrigin, LabelTarget, TargetRole},
    state::TaskState,
};
use evaluator::{Bucket, EvaluatorError, LabelReport, PredictionFilter, QualityQuery};

async fn open() -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    (dir, world)
}

#[tokio::test]
async fn quality_is_what_a_naive_count_says() {
    let (_dir, world) = open().await;
    let mut rows = rows(21, 0..24 * 40, 3, 0.1);
    // Every third row is answered by version 3, which version 1 never scores.
    rows.iter_mut().step_by(3).for_each(|row| row.scores[0].0 = 3);
    play(&world.evaluator, &rows).await;
    let query = QualityQuery {
        from: Some(at(24)),
        to: Some(at(24 * 35)),
        bucket: Bucket::Month,
        slice: Some("site".to_owned()),
    };
    let found = world.evaluator.quality(&endpoint(), query).await.unwrap();

    let mut expected: BTreeMap<_, (u64, Vec<f64>, Vec<bool>)> = BTreeMap::new();
    for row in rows.iter().filter(|row| (at(24)..at(24 * 35)).contains(&row.at)) {
        let month = if row.at < at(24 * 30) { at(0) } else { at(24 * 30) };
        for (version, role, score) in &row.scores {
            let mut names = vec![version.to_string()];
            names.extend((*role == TargetRole::Live).then(|| "served".to_owned()));
            for name in names {
                let pile = expected.entry((month, name, row.site.unwrap().to_owned())).or_default();
                pile.0 += u64::from(*role == TargetRole::Live);
                pile.1.push(f64::from(*score));
                pile.2.push(row.truth);
            }
        }
    }
    assert_eq!(found.len(), expected.len());
    for row in &found {
        let key = (row.bucket_start, row.version.clone(), row.slice.clone().unwrap());
        let (answered, scores, labels) = &expected[&key];
        let n = labels.len();
        assert_eq!((row.predictions, row.labelled, row.answered), (n as u64, n as u64, *answered), "{key:?}");
        let (mut wins, mut pairs, mut loss, mut brier) = (0.0, 0.0, 0.0, 0.0);
        for i in 0..n {
            let y = f64::from(u8::from(labels[i]));
            loss -= (if labels[i] { scores[i] } else { 1.0 - scores[i] }).ln() / n as f64;
            brier += (scores[i] - y).powi(2) / n as f64;
            for j in (0..n).filter(|&j| labels[i] && !labels[j]) {
                pairs += 1.0;
                wins += if scores[i] > scores[j] { 1.0 } else { 0.5 * f64::from(u8::from(scores[i] == scores[j])) };
            }
        }
        for (found, expected) in [(row.auc, wins / pairs), (row.log_loss, loss), (row.brier, brier)] {
            assert!((found.unwrap() - expected).abs() < 1e-9, "{key:?}: {found:?} is not {expected}");
        }
        let rate = labels.iter().filter(|label| **label).count() as f64 / n as f64;
        assert!((row.rate.unwrap() - rate).abs() < 1e-9);
        assert!((row.mean_score.unwrap() - scores.iter().sum::<f64>() / n as f64).abs() < 1e-9);
    }
    assert_eq!(found[0].version, "served");
    let everything = QualityQuery { bucket: Bucket::Month, ..QualityQuery::default() };
    let months = world.evaluator.quality(&endpoint(), everything).await.unwrap();
    for scored in world.evaluator.scored(&endpoint()).await.unwrap() {
        let of_version = months.iter().filter(|row| row.version == scored.version.to_string());
        let counted: Vec<_> = of_version.map(|row| (row.predictions, row.answered, row.labelled)).collect();
        let told: Vec<_> = scored.months.iter().map(|m| (m.predictions, m.answered, m.labelled)).collect();
        assert_eq!(told, counted, "version {}", scored.version);
        assert_eq!(scored.all.predictions, counted.iter().map(|month| month.0).sum::<u64>());
        assert!(scored.all.from == scored.months[0].from && scored.all.to == scored.months.last().unwrap().to);
    }
    let wrong = QualityQuery { slice: Some("colour".to_owned()), ..QualityQuery::default() };
    let error = world.evaluator.quality(&endpoint(), wrong).await.unwrap_err();
    assert_eq!((error.code(), error.hint().as_str()), (ErrorCode::InvalidArgument, "slices are: site"));
    world.close().await;
}

#[tokio::test]
async fn a_label_may_follow_its_prediction_at_once_or_come_before_it() {
    let (_dir, world) = open().await;
    let rows = rows(22, 0..1, 4, 0.0);
    // No wait between the offer and the labels: the labels queue behind it.
    assert!(world.evaluator.offer(batch(&rows[..2])));
    let labels = vec![
        label(LabelTarget::Prediction(rows[0].id), true, at(1)),
        outcome(&rows[1]),
        outcome(&rows[2]),
        label(LabelTarget::Prediction(PredictionId::mint()), true, at(1)),
    ];
    let report = world.evaluator.labels(&endpoint(), labels).await.unwrap();
    assert_eq!((report.joined, report.unmatched), (2, 1));
    assert_eq!((report.problems.len(), report.problems[0].index), (1, 3));
    assert_eq!(report.problems[0].code, ErrorCode::NotFound);
    assert!(report.problems[0].hint.contains("may not have been sampled"), "{:?}", report.problems);
    // The third prediction comes after its label.
    assert!(world.evaluator.offer(batch(&rows[2..])));
    let status = world.evaluator.settle(&endpoint()).await.unwrap();
    assert_eq!((status.logged, status.labelled, status.unmatched), (4, 3, 1));
    let known = world.evaluator.prediction(&rows[2].id).await.unwrap();
    assert_eq!(known.label.unwrap().value, rows[2].truth);
    assert_eq!(known.inputs["heat"], rows[2].heat.unwrap());
    assert_eq!(known.inputs["site"], "east");
    assert_eq!(known.scores.len(), 2);
    let place = world.evaluator.locate(&rows[2].id).await;
    assert_eq!(place, Some((endpoint(), rows[2].key.clone())));
    assert_eq!(world.evaluator.locate(&PredictionId::mint()).await, None);
    world.close().await;
}

#[tokio::test]
async fn corrections_count_and_reviewers_outrank_outcomes() {
    let (dir, world) = open().await;
    let row = &rows(23, 0..1, 1, 0.0)[0];
    assert!(world.evaluator.offer(batch(std::slice::from_ref(row))));
    let say = async |value, origin, hour| {
        let target = LabelTarget::Prediction(row.id);
        let label = Label { target, value, known_at: at(hour), origin, reviewer: None };
        let report = world.evaluator.labels(&endpoint(), vec![label]).await.unwrap();
        (report.joined, report.corrected, report.already, report.overruled)
    };
    assert_eq!(say(true, LabelOrigin::Outcome, 1).await, (1, 0, 0, 0));
    assert_eq!(say(true, LabelOrigin::Outcome, 2).await, (0, 0, 1, 0));
    assert_eq!(say(false, LabelOrigin::Outcome, 3).await, (1, 1, 0, 0));
    assert_eq!(say(true, LabelOrigin::Reviewer, 2).await, (1, 1, 0, 0));
    assert_eq!(say(false, LabelOrigin::Outcome, 9).await, (0, 0, 0, 1));
    let known = world.evaluator.prediction(&row.id).await.unwrap().label.unwrap();
    assert_eq!((known.value, known.origin), (true, LabelOrigin::Reviewer));
    assert_eq!(world.evaluator.status(&endpoint()).await.unwrap().labelled, 1);
    world.close().await;
    let world = World::open(dir.path()).await;
    assert_eq!(world.evaluator.prediction(&row.id).await.unwrap().label, Some(known));
    world.close().await;
}

#[tokio::test]
async fn an_unknown_endpoint_is_named_with_the_nearest() {
    let (_dir, world) = open().await;
    let error = world.evaluator.status(&"pump".parse().unwrap()).await.unwrap_err();
    assert_eq!((error.code(), error.hint().as_str()), (ErrorCode::NotFound, "did you mean `pumps`?"));
    let error = world.evaluator.labels(&"pump".parse().unwrap(), vec![]).await.unwrap_err();
    assert_eq!((error.code(), error.hint().as_str()), (ErrorCode::NotFound, "did you mean `pumps`?"));
    let mut other = watch(9);
    other.definition.name = "other".parse().unwrap();
    let error = world.evaluator.configure(other).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "no reference for version 9");
    assert_eq!(world.evaluator.endpoints(), [endpoint()]);
    world.close().await;
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open_with(dir.path(), 100).await;
    let rows = rows(24, 0..30, 10, 0.0);
    // The one thread of this test does not yield, so the log cannot keep up.
    let taken: Vec<_> = rows.chunks(10).map(|rows| world.evaluator.offer(batch(rows))).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 10);
    assert!(taken[..10].iter().all(|taken| *taken));
    world.evaluator.configure(watch(1)).await.unwrap();
    let status = world.evaluator.settle(&endpoint()).await.unwrap();
    assert_eq!((status.logged, status.dropped), (100, 200));
    assert!(world.metrics.render().contains("millpond_log_dropped_total{endpoint=\"pumps\"} 200"));
    // Once drained there is room again; a batch that contradicts itself is refused.
    assert!(world.evaluator.offer(batch(&rows[100..110])));
    let mut broken = batch(&rows[110..120]);
    broken.event_times.pop();
    assert!(!world.evaluator.offer(broken));
    let status = world.evaluator.settle(&endpoint()).await.unwrap();
    assert_eq!((status.logged, status.dropped), (110, 210));
    world.close().await;
}

#[tokio::test]
async fn predictions_are_listed_by_event_time_and_come_back_as_they_were() {
    let (_dir, world) = open().await;
    let rows = rows(25, 0..10, 5, 0.0);
    play(&world.evaluator, &rows).await;
    let filter = PredictionFilter { from: Some(at(2)), to: Some(at(8)), limit: 7, newest: true };
    let found = world.evaluator.predictions(&endpoint(), filter).await.unwrap();
    assert_eq!(found.iter().map(|p| p.id).collect::<Vec<_>>(), rows[33..40].iter().map(|r| r.id).collect::<Vec<_>>());
    for (found, row) in found.iter().zip(&rows[33..]) {
        assert_eq!((found.event_time, &found.label_key), (row.at, &row.key));
        assert_eq!(found.inputs["heat"].as_f64(), row.heat);
        assert_eq!(found.scores.iter().map(|s| (s.version, s.role, s.score)).collect::<Vec<_>>(), row.scores);
    }
    let filter = PredictionFilter { from: Some(at(2)), limit: 3, ..PredictionFilter::default() };
    let found = world.evaluator.predictions(&endpoint(), filter).await.unwrap();
    assert_eq!(found.iter().map(|p| p.id).collect::<Vec<_>>(), rows[10..13].iter().map(|r| r.id).collect::<Vec<_>>());
    world.close().await;
}

#[tokio::test]
async fn slices_may_be_named_after_the_fact() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let mut plain = definition();
    plain.monitor.slices.clear();
    world.evaluator.configure(watch_as(plain, 1)).await.unwrap();
    play(&world.evaluator, &rows(26, 0..10, 6, 0.0)).await;
    world.evaluator.configure(watch(1)).await.unwrap();
    play(&world.evaluator, &rows(27, 10..20, 6, 0.0)).await;
    let query = QualityQuery { slice: Some("site".to_owned()), ..QualityQuery::default() };
    let found = world.evaluator.quality(&endpoint(), query).await.unwrap();
    let served: Vec<_> = found.iter().filter(|row| row.version == "served").collect();
    assert_eq!(served.iter().map(|row| row.slice.as_deref().unwrap()).collect::<Vec<_>>(), ["east", "north", "south"]);
    assert!(served.iter().all(|row| row.predictions == 40), "{served:?}");
    world.close().await;
}

#[tokio::test]
async fn people_are_asked_about_close_calls_and_answer_once() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::open(dir.path()).await;
    let mut definition = definition();
    (definition.review.band, definition.review.max_open) = (0.01, 3);
    world.evaluator.configure(watch_as(definition, 1)).await.unwrap();
    let mut rows = rows(28, 0..1, 8, 0.0);
    for (row, score) in rows.iter_mut().zip([0.497, 0.52, 0.5, 0.48, 0.505, 0.503, 0.9, 0.1]) {
        row.scores[0].2 = score;
    }
    assert!(world.evaluator.offer(batch(&rows)));
    world.evaluator.settle(&endpoint()).await.unwrap();
    let queued = async || world.evaluator.tasks(&endpoint(), Some(TaskState::Queued), 10).await.unwrap();
    let tasks = queued().await;
    let asked: Vec<_> = tasks.iter().map(|task| task.prediction).collect();
    assert_eq!(asked, [rows[0].id, rows[2].id, rows[4].id], "near the threshold, three at most");
    assert_eq!(tasks[0].why, "score 0.497 is within 0.01 of the threshold 0.5");
    assert_eq!((tasks[0].inputs["site"].as_str(), &tasks[0].label_key), (Some("north"), &rows[0].key));

    // Its outcome arrives: nobody needs to say.
    world.evaluator.labels(&endpoint(), vec![outcome(&rows[4])]).await.unwrap();
    assert_eq!(queued().await.len(), 2);
    let error = world.evaluator.answer(&tasks[2].id, true, "ann").await.unwrap_err();
    assert!(matches!(error, EvaluatorError::Withdrawn(_)) && error.code() == ErrorCode::Conflict);

    let answer = world.evaluator.answer(&tasks[0].id, true, "ann").await.unwrap();
    assert_eq!(answer.label.target, LabelTarget::Prediction(rows[0].id));
    assert_eq!((answer.label.value, answer.label.origin), (true, LabelOrigin::Reviewer));
    assert_eq!(answer.label.known_at, rows[4].at + Span::HOUR, "known when event time had come so far");
    let again = world.evaluator.answer(&tasks[0].id, true, "bob").await.unwrap();
    assert_eq!(again.task.reviewer.as_deref(), Some("ann"));
    let error = world.evaluator.answer(&tasks[0].id, false, "bob").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Conflict);
    let missing = world.evaluator.answer(&domain::TaskId::mint(), false, "bob").await.unwrap_err();
    assert_eq!(missing.code(), ErrorCode::NotFound);
    let report = world.evaluator.labels(&endpoint(), vec![answer.label]).await.unwrap();
    assert_eq!(report, LabelReport { joined: 1, ..LabelReport::default() });
    assert_eq!(world.evaluator.task(&tasks[0].id).await.unwrap().state, TaskState::Answered);
    let answered: Vec<_> = world.story().await.into_iter().filter(|e| e.kind == EventKind::ReviewAnswered).collect();
    assert_eq!(answered.len(), 1);
    assert_eq!((&answered[0].actor, &answered[0].body["value"]), (&"ann".to_owned(), &true.into()));

    // There is room for new questions, also after a restart.
    world.close().await;
    let world = World::open(dir.path()).await;
    assert_eq!(world.evaluator.status(&endpoint()).await.unwrap().open_tasks, 1);
    world.close().await;
}

#[tokio::test]
async fn a_trial_is_judged_on_live_answers_after_it_began() {
    let (_dir, world) = open().await;
    let mut rows = rows(29, 0..100, 20, 0.2);
    // Version 2 answers every fifth request from hour 50; before and beside that it only shadows.
    rows[1_000..].iter_mut().step_by(5).for_each(|row| row.scores = vec![(2, TargetRole::Live, row.scores[1].2)]);
    play(&world.evaluator, &rows).await;
    let trial = world.evaluator.canary(&endpoint(), 1, 2, at(50)).await.unwrap();
    assert_eq!((trial.champion.n, trial.challenger.n), (800, 200));
    let (diff, lower, upper) = (trial.diff.unwrap(), trial.lower.unwrap(), trial.upper.unwrap());
    assert!(lower < diff && diff < upper && upper < 0.0, "knowing the rise is better: {lower} {diff} {upper}");
    let (a, b) = (&trial.champion, &trial.challenger);
    let error = (a.sd.unwrap().powi(2) / 800.0 + b.sd.unwrap().powi(2) / 200.0).sqrt();
    assert!((diff - (b.log_loss.unwrap() - a.log_loss.unwrap())).abs() < 1e-12);
    assert!(((upper - lower) / (2.0 * error) - 1.965).abs() < 0.02, "{}", (upper - lower) / error);
    let nothing = world.evaluator.canary(&endpoint(), 1, 7, at(50)).await.unwrap();
    assert_eq!((nothing.challenger.n, nothing.challenger.log_loss, nothing.diff), (0, None, None));
    world.close().await;
}

#[test]
fn a_better_challenger_is_seen_on_the_same_rows() {
    let rows = rows(30, 0..100, 20, 0.2);
    let labels: Vec<_> = rows.iter().map(|row| row.truth).collect();
    let scores = |i: usize| rows.iter().map(|row| row.scores[i].2).collect::<Vec<_>>();
    let better = evaluator::compare(&labels, &scores(0), &scores(1), 0.95, 7).unwrap();
    assert!(better.lower > 0.0 && better.gain > better.lower && better.p < 0.01, "{better:?}");
    assert!((better.champion_log_loss - better.challenger_log_loss - better.gain).abs() < 1e-9);
    assert_eq!(better, evaluator::compare(&labels, &scores(0), &scores(1), 0.95, 7).unwrap());
    let same = evaluator::compare(&labels, &scores(0), &scores(0), 0.95, 7).unwrap();
    assert_eq!((same.gain, same.lower), (0.0, 0.0));
    for wrong in [
        evaluator::compare(&labels[1..], &scores(0), &scores(1), 0.95, 7),
        evaluator::compare(&[], &[], &[], 0.95, 7),
        evaluator::compare(&labels, &scores(0), &scores(1), 1.0, 7),
    ] {
        assert_eq!(wrong.unwrap_err().code(), ErrorCode::InvalidArgument);
    }
}
