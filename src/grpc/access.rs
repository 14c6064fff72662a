//! Projects, tokens, the audit log.

use ::access::{Issued, NewToken, Project as Known, Token as Kept, lifetime};
use domain::{ErrorCode, Right};
use proto::access::{
    CreateProjectRequest, CreateTokenRequest, IssuedToken, ListProjectsRequest, ListProjectsResponse,
    ListTokensRequest, ListTokensResponse, Project, RevokeTokenRequest, RotateTokenRequest, Token, VerifyAuditRequest,
    VerifyAuditResponse, WhoamiRequest, WhoamiResponse, access_server::Access,
};
use tonic::{Request, Response, Status};

use super::{Door, object, read, read_opt, refuse, status};
use crate::{http::Visitor, tenants::Tenants};

const ACTOR: &str = "grpc";

fn token(kept: &Kept) -> Result<Token, Status> {
    Ok(Token { id: kept.id.to_string(), body: Some(object(kept)?) })
}

fn issued(issued: &Issued) -> Result<Response<IssuedToken>, Status> {
    Ok(Response::new(IssuedToken { secret: issued.secret.reveal(), token: Some(token(&issued.token)?) }))
}

fn project(known: Known) -> Project {
    Project {
        name: known.name.to_string(),
        created_at: known.created_at.map(|at| at.to_string()).unwrap_or_default(),
        created_by: known.created_by.unwrap_or_default(),
    }
}

/// Who calls, as the door found out.
fn visitor<T>(request: &Request<T>) -> Visitor {
    request.extensions().get().cloned().unwrap_or_default()
}

fn tenants<T>(request: &Request<T>) -> Result<Tenants, Status> {
    let found = request.extensions().get::<Tenants>().cloned();
    found.ok_or_else(|| status(ErrorCode::Internal, "the call did not come through the door"))
}

#[tonic::async_trait]
impl Access for Door {
    async fn whoami(&self, request: Request<WhoamiRequest>) -> Result<Response<WhoamiResponse>, Status> {
        let visitor = visitor(&request);
        Ok(Response::new(WhoamiResponse {
            project: self.app.project.to_string(),
            token: visitor.token.as_deref().map(token).transpose()?,
            rights: Right::ALL.iter().filter(|right| visitor.may(**right)).map(ToString::to_string).collect(),
        }))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Result<Response<ListTokensResponse>, Status> {
        let all = self.app.access.tokens().await;
        Ok(Response::new(ListTokensResponse { tokens: all.iter().map(token).collect::<Result<_, _>>()? }))
    }

    async fn create_token(&self, request: Request<CreateTokenRequest>) -> Result<Response<IssuedToken>, Status> {
        let by = visitor(&request).as_admin(ACTOR);
        let request = request.into_inner();
        let new = NewToken {
            name: request.name,
            role: read("role", &request.role)?,
            scopes: request.scopes.iter().map(|scope| read("scopes", scope)).collect::<Result<_, _>>()?,
            house: request.house,
            expires_in: lifetime(Some(&request.expires_in)).map_err(refuse)?,
        };
        issued(&self.app.access.create_token(&self.app.project, new, by).await.map_err(refuse)?)
    }

    async fn rotate_token(&self, request: Request<RotateTokenRequest>) -> Result<Response<IssuedToken>, Status> {
        let by = visitor(&request).as_admin(ACTOR);
        let request = request.into_inner();
        let overlap = read_opt("overlap", &request.overlap)?.unwrap_or_default();
        let id = read("id", &request.id)?;
        issued(&self.app.access.rotate_token(&self.app.project, &id, overlap, by).await.map_err(refuse)?)
    }

    async fn revoke_token(&self, request: Request<RevokeTokenRequest>) -> Result<Response<Token>, Status> {
        let by = visitor(&request).as_admin(ACTOR);
        let revoked = self.app.access.revoke_token(&read("id", &request.get_ref().id)?, by).await.map_err(refuse)?;
        Ok(Response::new(token(&revoked)?))
    }

    async fn list_projects(
        &self,
        request: Request<ListProjectsRequest>,
    ) -> Result<Response<ListProjectsResponse>, Status> {
        let open = tenants(&request)?.open_to(&visitor(&request), &self.app.project).await.map_err(refuse)?;
        Ok(Response::new(ListProjectsResponse { projects: open.into_iter().map(project).collect() }))
    }

    async fn create_project(&self, request: Request<CreateProjectRequest>) -> Result<Response<Project>, Status> {
        let tenants = tenants(&request)?;
        let name = read("name", &request.get_ref().name)?;
        let created = tenants.create(&name, ACTOR).await.map_err(|error| {
            let problem = crate::http::problem::Problem::from_any(error);
            status(problem.error_code(), problem.in_one_line())
        })?;
        Ok(Response::new(project(created)))
    }

    async fn verify_audit(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        let remembered = read_opt("head", &request.get_ref().head)?;
        let head = self.app.meta.journal().verify(remembered.as_ref()).await.map_err(refuse)?;
        Ok(Response::new(VerifyAuditResponse { events: head.seq, head: head.to_string() }))
    }
}
