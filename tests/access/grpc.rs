//! The same over gRPC.

use proto::access::{
    CreateProjectRequest, CreateTokenRequest, ListProjectsRequest, ListTokensRequest, RevokeTokenRequest,
    RotateTokenRequest, VerifyAuditRequest, WhoamiRequest, access_client::AccessClient,
};
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::Guarded;

/// Sends a token with every call, and maybe a project.
#[derive(Clone)]
struct With(String, Option<&'static str>);

impl Interceptor for With {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = MetadataValue::try_from(format!("Bearer {}", self.0)).expect("plain text");
        request.metadata_mut().insert("authorization", token);
        if let Some(project) = self.1 {
            request.metadata_mut().insert("x-millpond-project", MetadataValue::from_static(project));
        }
        Ok(request)
    }
}

type Client = AccessClient<InterceptedService<Channel, With>>;

#[tokio::test]
async fn tokens_and_projects_are_made_over_grpc_and_hold_there() {
    let guarded = Guarded::fresh();
    let channel = Channel::from_shared(guarded.server.url.clone()).expect("an address").connect().await.expect("there");
    let client = |token: &str, project| -> Client {
        AccessClient::with_interceptor(channel.clone(), With(token.to_owned(), project))
    };
    let mut nobody = AccessClient::new(channel.clone());
    assert_eq!(nobody.whoami(WhoamiRequest {}).await.expect_err("no token").code(), Code::Unauthenticated);

    let mut root = client(guarded.root.as_str(), None);
    let made = root.create_project(CreateProjectRequest { name: "vision".into() }).await.expect("made").into_inner();
    assert_eq!((made.name.as_str(), made.created_by.as_str()), ("vision", "first-admin"));
    let taken = root.create_project(CreateProjectRequest { name: "vision".into() }).await.expect_err("taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    let new = CreateTokenRequest { name: "ann".into(), role: "admin".into(), ..CreateTokenRequest::default() };
    let ann = client(&guarded.root, Some("vision")).create_token(new.clone()).await.expect("made").into_inner();

    let mut admin = client(&ann.secret, None);
    let who = admin.whoami(WhoamiRequest {}).await.expect("known").into_inner();
    assert_eq!((who.project.as_str(), who.rights.len()), ("vision", 6));
    let open = admin.list_projects(ListProjectsRequest {}).await.expect("listed").into_inner().projects;
    assert_eq!(open.iter().map(|project| project.name.as_str()).collect::<Vec<_>>(), ["vision"]);
    let refused = admin.create_project(CreateProjectRequest { name: "mine".into() }).await.expect_err("not hers");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let house = CreateTokenRequest { house: true, ..new.clone() };
    assert_eq!(admin.create_token(house).await.expect_err("not hers").code(), Code::PermissionDenied);
    for wrong in [
        CreateTokenRequest { role: "king".into(), ..new.clone() },
        CreateTokenRequest { scopes: vec!["fly".into()], ..new.clone() },
        CreateTokenRequest { expires_in: "soon".into(), ..new.clone() },
    ] {
        assert_eq!(admin.create_token(wrong).await.expect_err("makes no sense").code(), Code::InvalidArgument);
    }

    let viewer = CreateTokenRequest { name: "bob".into(), role: "viewer".into(), ..new };
    let viewer = admin.create_token(viewer).await.expect("made").into_inner();
    let mut bob = client(&viewer.secret, None);
    assert_eq!(bob.list_tokens(ListTokensRequest {}).await.expect_err("not his").code(), Code::PermissionDenied);
    let id = viewer.token.expect("a token").id;
    let rotate = RotateTokenRequest { id: id.clone(), overlap: "1h".into() };
    let fresh = admin.rotate_token(rotate).await.expect("rotated").into_inner();
    assert!(bob.whoami(WhoamiRequest {}).await.is_ok(), "the old one goes on for an hour");
    admin.revoke_token(RevokeTokenRequest { id }).await.expect("revoked");
    assert_eq!(bob.whoami(WhoamiRequest {}).await.expect_err("revoked").code(), Code::Unauthenticated);
    assert!(client(&fresh.secret, None).whoami(WhoamiRequest {}).await.is_ok());
    let kept = admin.list_tokens(ListTokensRequest {}).await.expect("listed").into_inner().tokens;
    assert_eq!(kept.len(), 3);

    let first = admin.verify_audit(VerifyAuditRequest::default()).await.expect("it holds").into_inner();
    assert!(first.events > 3);
    let again = VerifyAuditRequest { head: first.head.clone() };
    assert!(admin.verify_audit(again).await.expect("it holds").into_inner().events >= first.events);
    let cut = VerifyAuditRequest { head: format!("999999:{}", first.head.split(':').nth(1).expect("a seal")) };
    assert_eq!(admin.verify_audit(cut).await.expect_err("cut off").code(), Code::DataLoss);
}
