//! Feast's protocols: its own client, unmodified, and what is sent that no client would send.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod flight;
mod online;
mod registry;
mod serving;

use support::Server;
use tempfile::TempDir;

/// Drivers, and fares by driver and zone.
const DEFINITIONS: &str = "
kind: Entity
name: driver
key: driver_id
type: int
---
kind: Entity
name: zone
key: zone
type: text
---
kind: Source
name: driver_stats
timestamp: event_timestamp
created: created
row_id: [driver_id]
columns:
  - {name: driver_id, type: int, required: true}
  - {name: conv_rate, type: float}
  - {name: trips, type: int}
  - {name: note, type: text}
  - {name: active, type: bool}
  - {name: event_timestamp, type: timestamp}
  - {name: created, type: timestamp}
---
kind: Source
name: fares
timestamp: event_timestamp
row_id: [driver_id, zone]
columns:
  - {name: driver_id, type: int}
  - {name: zone, type: text}
  - {name: fare, type: float}
  - {name: trips, type: int}
  - {name: event_timestamp, type: timestamp}
---
kind: FeatureView
name: driver_stats
source: driver_stats
entities: [driver]
ttl: 2d
features: [{name: conv_rate}, {name: trips}, {name: note}, {name: active}]
---
kind: FeatureView
name: driver_week
source: driver_stats
entities: [driver]
aggregations:
  - {name: trips_7d, column: trips, function: sum, window: 7d}
---
kind: FeatureView
name: fares
source: fares
entities: [driver, zone]
features: [{name: fare}, {name: trips}]
---
kind: FeatureService
name: rides
description: what a ride is priced with
views:
  - {view: driver_stats}
  - {view: fares, features: [fare]}
";

/// A server with these definitions and no rows.
fn world() -> (Server, TempDir) {
    let (server, data) = Server::fresh();
    server.apply(DEFINITIONS).ok();
    (server, data)
}
