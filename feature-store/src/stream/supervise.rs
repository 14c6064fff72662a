//! Which streams are read: one reader for each source that has a stream, is not paused, and whose rows are here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use domain::{SourceName, definition::StreamInput};
use runtime::{CancellationToken, House};
use tokio::sync::oneshot;

use super::{StreamPhase, StreamSettings, read::Reader};
use crate::{FeatureStore, error::FeatureError};

/// Wait before asking a database again that did not say what is paused.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A reader that runs.
struct Running {
    input: StreamInput,
    stop: CancellationToken,
    /// Ends when the reader has.
    ended: oneshot::Receiver<()>,
}

impl FeatureStore {
    /// Reads the streams of all sources, as definitions come and go, until the house shuts down.
    pub fn read_streams(&self, house: &House, settings: StreamSettings) {
        let (store, readers) = (self.clone(), house.clone());
        let settings = Arc::new(settings);
        house.spawn("streams", move |stop| async move { store.supervise(&readers, &settings, &stop).await });
    }

    async fn supervise(&self, house: &House, settings: &Arc<StreamSettings>, stop: &CancellationToken) {
        let mut changed = self.0.streams.changed.subscribe();
        let mut running: BTreeMap<SourceName, Running> = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            let settled = self.arrange(house, settings, stop, &mut running).await;
            let again = async {
                match settled {
                    Ok(()) => std::future::pending().await,
                    Err(error) => {
                        tracing::warn!(%error, "which streams are paused cannot be read");
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                _ = changed.changed() => {}
                () = again => {}
            }
        }
        for (source, reader) in running {
            // Its token is a child of ours.
            let _ = reader.ended.await;
            self.0.streams.forget(&source);
        }
    }

    /// Stops the readers that should not run, and starts those that should.
    async fn arrange(
        &self,
        house: &House,
        settings: &Arc<StreamSettings>,
        stop: &CancellationToken,
        running: &mut BTreeMap<SourceName, Running>,
    ) -> Result<(), FeatureError> {
        let paused: BTreeSet<String> = self.0.paused().await?.into_iter().collect();
        let catalog = self.0.catalog();
        let mut wanted: BTreeMap<SourceName, StreamInput> = BTreeMap::new();
        for plan in catalog.sources() {
            let source = &plan.definition.name;
            let Some(input) = &plan.definition.stream else { continue };
            if paused.contains(source.as_str()) {
                continue;
            }
            if self.0.source_table(source).is_ok() {
                wanted.insert(source.clone(), input.clone());
            }
        }
        let gone: Vec<SourceName> = running
            .iter()
            .filter(|(source, reader)| wanted.get(*source) != Some(&reader.input))
            .map(|(source, _)| source.clone())
            .collect();
        for source in gone {
            if let Some(reader) = running.remove(&source) {
                reader.stop.cancel();
                let _ = reader.ended.await;
                self.0.streams.forget(&source);
            }
        }
        for (source, input) in wanted {
            if running.contains_key(&source) {
                continue;
            }
            let (tell, ended) = oneshot::channel();
            let halt = stop.child_token();
            let reader = Reader::new(self.clone(), source.clone(), input.clone(), settings.clone(), halt.clone());
            house.spawn("stream reader", move |_| async move {
                reader.run().await;
                // Whoever waited may be gone.
                let _ = tell.send(());
            });
            running.insert(source, Running { input, stop: halt, ended });
        }
        for plan in catalog.sources().filter(|plan| paused.contains(plan.definition.name.as_str())) {
            self.0.streams.progress(&plan.definition.name, |progress| progress.phase = Some(StreamPhase::Paused));
        }
        Ok(())
    }
}
