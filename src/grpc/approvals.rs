use ::registry::{ApprovalFilter, Ask, Gate, HistoryOf, NewProtection, Verdict};
use domain::{ApprovalId, ErrorCode, ModelName, state::ApprovalState};
use proto::{
    from_struct,
    registry::{
        Approval, AskRequest, DecideRequest, GetApprovalRequest, GetHistoryRequest, History, ListApprovalsRequest,
        ListApprovalsResponse, ListProtectionsRequest, ListProtectionsResponse, ProtectAliasRequest, Protection,
        UnprotectAliasRequest, UnprotectAliasResponse, approvals_server::Approvals,
    },
};
use storage::caller_or;
use tonic::{Request, Response, Status};

use super::{Door, limit, object, objects, read, refuse, status};

fn approval(asked: &::registry::Approval) -> Result<Approval, Status> {
    Ok(Approval { id: asked.id.to_string(), state: asked.state.as_str().to_owned(), body: Some(object(asked)?) })
}

fn protection(known: &::registry::Protection) -> Result<Protection, Status> {
    Ok(Protection { body: Some(object(known)?) })
}

fn gate(number: usize, given: prost_types::Struct) -> Result<Gate, Status> {
    let given = serde_json::Value::Object(from_struct(given));
    serde_json::from_value(given).map_err(|e| status(ErrorCode::InvalidArgument, format!("gates[{number}]: {e}")))
}

/// What stands in a field that may be empty.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[tonic::async_trait]
impl Approvals for Door {
    async fn protect_alias(&self, request: Request<ProtectAliasRequest>) -> Result<Response<Protection>, Status> {
        let ProtectAliasRequest { model, alias, approvals, gates, allow_unsafe, reason, actor } = request.into_inner();
        let model: ModelName = read("model", &model)?;
        let gates = gates.into_iter().enumerate().map(|(n, one)| gate(n, one)).collect::<Result<_, _>>()?;
        let rule = NewProtection { approvals, gates, allow_unsafe, reason };
        let made = self.app.registry.protect_alias(&model, &alias, rule, &caller_or(&actor)).await.map_err(refuse)?;
        protection(&made).map(Response::new)
    }

    async fn unprotect_alias(
        &self,
        request: Request<UnprotectAliasRequest>,
    ) -> Result<Response<UnprotectAliasResponse>, Status> {
        let UnprotectAliasRequest { model, alias, reason, actor } = request.into_inner();
        let model: ModelName = read("model", &model)?;
        self.app.registry.unprotect_alias(&model, &alias, &caller_or(&actor), &reason).await.map_err(refuse)?;
        Ok(Response::new(UnprotectAliasResponse {}))
    }

    async fn list_protections(
        &self,
        request: Request<ListProtectionsRequest>,
    ) -> Result<Response<ListProtectionsResponse>, Status> {
        let model: ModelName = read("model", &request.into_inner().model)?;
        let known = self.app.registry.protections(&model).await.map_err(refuse)?;
        let protections = known.iter().map(protection).collect::<Result<_, _>>()?;
        Ok(Response::new(ListProtectionsResponse { protections }))
    }

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Approval>, Status> {
        let AskRequest { model, alias, version, reason, actor } = request.into_inner();
        let actor = caller_or(&actor);
        let ask = Ask { model: read("model", &model)?, alias, version, actor, reason, cause: None };
        approval(&self.app.registry.ask_approval(ask).await.map_err(refuse)?).map(Response::new)
    }

    async fn get_approval(&self, request: Request<GetApprovalRequest>) -> Result<Response<Approval>, Status> {
        let request = request.into_inner();
        let (model, id): (ModelName, ApprovalId) = (read("model", &request.model)?, read("id", &request.id)?);
        approval(&self.app.registry.approval(&model, &id).await.map_err(refuse)?).map(Response::new)
    }

    async fn list_approvals(
        &self,
        request: Request<ListApprovalsRequest>,
    ) -> Result<Response<ListApprovalsResponse>, Status> {
        let request = request.into_inner();
        let model: ModelName = read("model", &request.model)?;
        let state = given(request.state)
            .map(|text| {
                let hint = "state: write pending, approved, rejected, withdrawn or superseded";
                ApprovalState::parse(&text).ok_or_else(|| status(ErrorCode::InvalidArgument, hint))
            })
            .transpose()?;
        let filter = ApprovalFilter { state, alias: given(request.alias), limit: limit(request.limit, 100) };
        let found = self.app.registry.approvals(&model, &filter).await.map_err(refuse)?;
        let approvals = found.iter().map(approval).collect::<Result<_, _>>()?;
        Ok(Response::new(ListApprovalsResponse { approvals }))
    }

    async fn decide(&self, request: Request<DecideRequest>) -> Result<Response<Approval>, Status> {
        let DecideRequest { model, id, verdict, actor, comment } = request.into_inner();
        let (model, id): (ModelName, ApprovalId) = (read("model", &model)?, read("id", &id)?);
        let unknown = || status(ErrorCode::InvalidArgument, "verdict: write approve, reject or withdraw");
        let verdict = Verdict::parse(&verdict).ok_or_else(unknown)?;
        let decided = self.app.registry.decide_approval(&model, &id, verdict, &caller_or(&actor), &comment).await;
        approval(&decided.map_err(refuse)?).map(Response::new)
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Result<Response<History>, Status> {
        let request = request.into_inner();
        let model: ModelName = read("model", &request.model)?;
        let set = |number: u64| Some(number).filter(|number| *number > 0);
        let version = Some(request.version).filter(|version| *version > 0);
        let of = HistoryOf::parse(version, given(request.alias)).map_err(refuse)?;
        let page = self.app.registry.history(&model, &of, set(request.before), limit(request.limit, 100)).await;
        let page = page.map_err(refuse)?;
        Ok(Response::new(History { events: objects(&page.events)?, next: page.next.unwrap_or_default() }))
    }
}
