//! What is wrong with an endpoint.

use domain::{Span, definition::Endpoint};

use super::{Catalog, Notes, check_label, unknown};

/// Column of a label source that, where it is there, says who gave the label.
pub(crate) const ORIGIN: &str = "origin";

pub(super) fn check(endpoint: &Endpoint, catalog: &Catalog<'_>, notes: &mut Notes<'_>) {
    let service = notes.find("service", "feature service", endpoint.service.as_str(), &catalog.services);
    notes.expect(!endpoint.label_key.is_empty(), "label_key", "names no column");
    check_label(&endpoint.labels, "labels", catalog, notes);
    let (given, stored) = (endpoint.label_key.len(), endpoint.labels.key.len());
    if given != stored {
        notes.add("labels.key", format!("has {stored} columns where `label_key` has {given}: they pair in order"));
    }
    if let Some(source) = catalog.sources.get(endpoint.labels.source.as_str()) {
        let written = |name: &str| {
            name == ORIGIN
                || name == source.timestamp.as_str()
                || name == endpoint.labels.column.as_str()
                || endpoint.labels.key.iter().any(|key| key.as_str() == name)
        };
        for column in source.columns.iter().filter(|c| c.required && !written(c.name.as_str())) {
            notes.add(
                "labels.source",
                format!("`{}` requires column `{}`, which a posted label does not have", source.name, column.name),
            );
        }
    }
    share(endpoint.sample, "sample", notes);
    share(endpoint.threshold, "threshold", notes);
    share(endpoint.review.band, "review.band", notes);
    let monitor = &endpoint.monitor;
    notes.expect(monitor.window > Span::ZERO, "monitor.window", "is longer than nothing");
    notes.expect(monitor.every > Span::ZERO, "monitor.every", "is longer than nothing");
    for (field, value) in [
        ("monitor.max_log_loss_rise", monitor.max_log_loss_rise),
        ("monitor.max_bias", monitor.max_bias),
        ("monitor.max_weighted_psi", monitor.max_weighted_psi.unwrap_or(0.0)),
    ] {
        notes.expect(value.is_finite() && value >= 0.0, field, "is a number from 0");
    }
    let rule = monitor.persistence;
    notes.expect(
        1 <= rule.fired && rule.fired <= rule.of && rule.of <= 100,
        "monitor.persistence",
        "`fired` lies between 1 and `of`, and `of` is at most 100",
    );
    if let Some(service) = service {
        let columns = catalog.columns(service);
        for (i, slice) in monitor.slices.iter().enumerate() {
            if !columns.iter().any(|c| *c.name == **slice) {
                let known = columns.iter().map(|c| &*c.name);
                notes.add(format!("monitor.slices[{i}]"), unknown("column of the service", slice, known));
            }
        }
    }
}

fn share(value: f64, field: &str, notes: &mut Notes<'_>) {
    notes.expect((0.0..=1.0).contains(&value), field, "lies between 0 and 1");
}
