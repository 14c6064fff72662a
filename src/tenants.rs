//! The projects of one server: each with rooms and a router of its own over a database, files and tables of its own, so
//! that no query and no path can reach from one into another.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use access::{AccessError, Project, default_project};
use axum::Router;
use domain::ProjectName;
use tokio::sync::Mutex;

use crate::{
    app::{App, Ground},
    http::Visitor,
};

/// Makes the routes of a project.
type Paths = Box<dyn Fn(&App) -> anyhow::Result<Router> + Send + Sync>;

/// A project that is open.
#[derive(Clone)]
pub struct Tenant {
    pub app: App,
    pub router: Router,
}

/// Every project of this server. Clones share them.
#[derive(Clone)]
pub struct Tenants(Arc<Inner>);

struct Inner {
    ground: Ground,
    paths: Paths,
    first: Tenant,
    others: RwLock<HashMap<ProjectName, Tenant>>,
    /// The turn to open a project.
    opening: Mutex<()>,
}

impl Tenants {
    /// Opens every project; `paths` makes the routes of each.
    ///
    /// # Errors
    /// When the first does not open. Another that does not is tried again when it is asked for, and keeps nobody else out.
    pub async fn open(
        ground: Ground,
        paths: impl Fn(&App) -> anyhow::Result<Router> + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let first = App::open(&ground, &default_project()).await?;
        let first = Tenant { router: paths(&first)?, app: first };
        let (others, opening) = (RwLock::default(), Mutex::default());
        let tenants = Self(Arc::new(Inner { ground, paths: Box::new(paths), first, others, opening }));
        for project in tenants.first().app.access.projects().await? {
            if let Err(error) = tenants.tenant(&project.name).await {
                tracing::error!(project = %project.name, error = %format!("{error:#}"), "a project does not open");
            }
        }
        Ok(tenants)
    }

    /// The project `default`, whose database also knows the others.
    #[must_use]
    pub fn first(&self) -> &Tenant {
        &self.0.first
    }

    /// The project of that name, opened now if another server has created it.
    ///
    /// # Errors
    /// [`AccessError::NoSuchProject`], or what kept it from opening.
    pub async fn tenant(&self, name: &ProjectName) -> anyhow::Result<Tenant> {
        if *name == default_project() {
            return Ok(self.0.first.clone());
        }
        if let Some(open) = self.known(name) {
            return Ok(open);
        }
        let _turn = self.0.opening.lock().await;
        if let Some(open) = self.known(name) {
            return Ok(open);
        }
        if !self.first().app.access.has_project(name).await? {
            return Err(AccessError::NoSuchProject(name.clone()).into());
        }
        let app = App::open(&self.0.ground, name).await?;
        let tenant = Tenant { router: (self.0.paths)(&app)?, app };
        self.0.others.write().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), tenant.clone());
        Ok(tenant)
    }

    /// Creates a project and opens it.
    ///
    /// # Errors
    /// A name that is taken or not lawful, or what kept it from opening; then it is opened when it is next asked for.
    pub async fn create(&self, name: &ProjectName, actor: &str) -> anyhow::Result<Project> {
        let project = self.first().app.access.create_project(name, actor).await?;
        self.tenant(name).await?;
        Ok(project)
    }

    /// Those of all projects that are open to the visitor of one.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub async fn open_to(&self, visitor: &Visitor, own: &ProjectName) -> Result<Vec<Project>, AccessError> {
        let mut all = self.first().app.access.projects().await?;
        all.retain(|project| visitor.is_house() || project.name == *own);
        Ok(all)
    }

    fn known(&self, name: &ProjectName) -> Option<Tenant> {
        self.0.others.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn all(&self) -> Vec<Tenant> {
        let others = self.0.others.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self.first()).chain(others.values()).cloned().collect()
    }

    /// From now on `/readyz` says no; requests under way go on.
    pub fn begin_drain(&self) {
        self.0.ground.draining.cancel();
    }

    /// Stops tasks in order and flushes what is buffered. Returns the names of tasks that did not stop in time.
    pub async fn close(&self, deadline: Duration) -> Vec<&'static str> {
        let late = self.0.ground.house.shutdown(deadline).await;
        for tenant in self.all() {
            tenant.app.flush().await;
        }
        late
    }
}
