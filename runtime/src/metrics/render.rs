//! Prometheus text exposition format 0.0.4.

use std::{borrow::Cow, fmt::Write as _};

use super::{All, Metric, Series};

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// Every metric with its help and type, and one line per series (six per summary), in table order.
pub(super) fn text(all: &All) -> String {
    let mut out = String::new();
    for metric in Metric::ALL {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "# HELP {} {}", metric.name(), metric.help());
        let _ = writeln!(out, "# TYPE {} {}", metric.name(), metric.kind().as_str());
        for ((_, values), series) in all.range((*metric, Vec::new())..).take_while(|((found, _), _)| found == metric) {
            lines(&mut out, *metric, values, series);
        }
    }
    out
}

fn lines(out: &mut String, metric: Metric, values: &[Box<str>], series: &Series) {
    let name = metric.name();
    let labels: Vec<_> =
        metric.labels().iter().zip(values).map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
    let labels = labels.join(",");
    match series {
        Series::Counter(counter) => line(out, name, &labels, counter.get()),
        Series::Gauge(gauge) => line(out, name, &labels, gauge.get()),
        Series::Timer(timer) => {
            let reading = timer.read(&QUANTILES);
            let separator = if labels.is_empty() { "" } else { "," };
            for (quantile, found) in QUANTILES.iter().zip(&reading.quantiles) {
                let seconds = found.map_or(f64::NAN, |found| found.as_secs_f64());
                line(out, name, &format!("{labels}{separator}quantile=\"{quantile}\""), seconds);
            }
            line(out, &format!("{name}_sum"), &labels, reading.sum.as_secs_f64());
            line(out, &format!("{name}_count"), &labels, reading.count);
        }
    }
}

fn line(out: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ =
        if labels.is_empty() { writeln!(out, "{name} {value}") } else { writeln!(out, "{name}{{{labels}}} {value}") };
}

/// A label value may hold anything; backslash, quote and line feed are escaped.
fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        Cow::Owned(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::Metrics;
    use crate::metrics::Kind;

    /// One sample of the text: name, labels, value.
    type Sample = (String, BTreeMap<String, String>, f64);

    /// A reader of the format, written from its description and not from the code above.
    fn parse(text: &str) -> Result<Vec<Sample>, String> {
        let mut samples = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with("# ") && !line.is_empty()) {
            let end = line.find(['{', ' ']).ok_or(format!("no value: {line}"))?;
            let (name, mut rest) = line.split_at(end);
            let mut labels = BTreeMap::new();
            if let Some(inside) = rest.strip_prefix('{') {
                rest = inside;
                while !rest.starts_with('}') {
                    let (label, after) = rest.split_once("=\"").ok_or(format!("no label value: {line}"))?;
                    let (value, after) = quoted(after).ok_or(format!("open quote: {line}"))?;
                    labels.insert(label.to_owned(), value);
                    rest = after.strip_prefix(',').unwrap_or(after);
                }
                rest = &rest[1..];
            }
            let value = rest.trim_start().parse::<f64>().map_err(|error| format!("{error}: {line}"))?;
            samples.push((name.to_owned(), labels, value));
        }
        Ok(samples)
    }

    /// The unescaped text up to the closing quote, and what follows it.
    fn quoted(text: &str) -> Option<(String, &str)> {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, letter)) = chars.next() {
            match letter {
                '"' => return Some((value, &text[at + 1..])),
                '\\' => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                letter => value.push(letter),
            }
        }
        None
    }

    #[test]
    fn every_metric_renders_as_text_that_parses() {
        let metrics = Metrics::new();
        for metric in Metric::ALL {
            let labels: Vec<&str> = metric.labels().to_vec();
            match metric.kind() {
                Kind::Counter => metrics.inc(*metric, &labels),
                Kind::Gauge => metrics.set(*metric, &labels, 1.5),
                Kind::Summary => metrics.observe(*metric, &labels, Duration::from_millis(20)),
            }
        }
        let text = metrics.render();
        let samples = parse(&text).expect("lawful text");
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} {}\n", metric.kind().as_str())), "{name}");
            let own: Vec<_> = samples.iter().filter(|(found, ..)| found == name).collect();
            match metric.kind() {
                Kind::Summary => {
                    let quantiles: Vec<_> = own.iter().map(|(_, labels, _)| labels["quantile"].as_str()).collect();
                    assert_eq!(quantiles, ["0.5", "0.9", "0.99", "0.999"], "{name}");
                    assert!(own.iter().all(|(.., value)| (value / 0.02 - 1.0).abs() < 0.01), "{own:?}");
                    let total = |suffix| samples.iter().find(|(found, ..)| *found == format!("{name}{suffix}"));
                    assert!(matches!(total("_count"), Some((.., value)) if *value == 1.0), "{name}");
                    assert!(matches!(total("_sum"), Some((.., value)) if (value - 0.02).abs() < 1e-9), "{name}");
                }
                Kind::Counter | Kind::Gauge => {
                    let wanted = if metric.kind() == Kind::Counter { 1.0 } else { 1.5 };
                    assert!(
                        matches!(own.as_slice(), [(_, labels, value)]
                        if *value == wanted && labels.len() == metric.labels().len()),
                        "{own:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_label_value_may_hold_anything() {
        let metrics = Metrics::new();
        let nasty = "a\\b \"c\"\nd}e,f=\"g";
        metrics.inc(Metric::LogDropped, &[nasty]);
        let samples = parse(&metrics.render()).expect("lawful text");
        assert_eq!(
            samples,
            [("millpond_log_dropped_total".into(), BTreeMap::from([("endpoint".into(), nasty.into())]), 1.0)]
        );
    }
}
