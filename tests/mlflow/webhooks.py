"""Webhooks and protected aliases, through MLflow's unmodified client.

    MLFLOW_TRACKING_URI=... python tests/mlflow/webhooks.py

The server has to let webhooks go to loopback addresses: the receiver is in here. It verifies signatures as MLflow's
documentation tells receivers to.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import queue
import sys
import threading
import time
import urllib.request

from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.webhooks.types import get_payload_class_for_event

from checks import CHECKS, check, holds, refused, same, unique

SECRET = "sesame-open"
TOLERANCE_SECONDS = 300
client = MlflowClient()
received = queue.Queue()


def verify_timestamp_freshness(timestamp):
    return abs(int(time.time()) - int(timestamp)) <= TOLERANCE_SECONDS


def verify_mlflow_signature(payload, signature, secret, delivery_id, timestamp):
    if not signature.startswith("v1,"):
        return False
    signed_content = f"{delivery_id}.{timestamp}.{payload}"
    expected = hmac.new(secret.encode("utf-8"), signed_content.encode("utf-8"), hashlib.sha256).digest()
    return hmac.compare_digest(signature.removeprefix("v1,"), base64.b64encode(expected).decode("utf-8"))


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8")
        told = {name: self.headers.get(f"X-MLflow-{name}") for name in ("Delivery-Id", "Timestamp", "Signature")}
        genuine = verify_timestamp_freshness(told["Timestamp"]) and (
            told["Signature"] is not None
            and verify_mlflow_signature(body, told["Signature"], SECRET, told["Delivery-Id"], told["Timestamp"])
        )
        received.put((genuine, json.loads(body)))
        self.send_response(200 if genuine else 401)
        self.end_headers()
        self.wfile.write(b"thanks" if genuine else b"not signed")

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}/hook"


def hook(*events, **more):
    return client.create_webhook(name=unique("hook"), url=URL, events=list(events), **{"secret": SECRET, **more})


def told(event):
    """The next message: its data, after its form was checked."""
    genuine, body = received.get(timeout=60)
    holds(genuine, f"the signature of {body} is right")
    same(f"{body['entity']}.{body['action']}", event, "the event")
    wanted = get_payload_class_for_event(WebhookEvent.from_str(event)).__annotations__
    same(sorted(body["data"]), sorted(wanted), "the members of the payload")
    return body["data"]


@check
def a_webhook_is_made_read_listed_changed_and_deleted():
    made = hook("model_version.created", "model_version_tag.set", description="for tests")
    same(made.status, WebhookStatus.ACTIVE, "status")
    same([str(event) for event in made.events], ["model_version.created", "model_version_tag.set"], "events")
    holds(made.secret is None and made.creation_timestamp > 0, f"no secret, a time: {made}")
    read = client.get_webhook(made.webhook_id)
    same((read.name, read.url, read.description), (made.name, URL, "for tests"), "what is read")
    other = hook("registered_model.created", status=WebhookStatus.DISABLED)
    ids, token = [], None
    while True:
        page = client.list_webhooks(max_results=1, page_token=token)
        ids.extend(webhook.webhook_id for webhook in page)
        token = page.token
        if not token:
            break
    same(ids[:2], [other.webhook_id, made.webhook_id], "newest first, page by page")
    changed = client.update_webhook(made.webhook_id, name=unique("other"), description="", status="DISABLED", events=["prompt.created"])
    same((changed.status, changed.description, [str(e) for e in changed.events]), (WebhookStatus.DISABLED, None, ["prompt.created"]), "changed")
    for webhook in (made, other):
        client.delete_webhook(webhook.webhook_id)
        with refused("RESOURCE_DOES_NOT_EXIST"):
            client.get_webhook(webhook.webhook_id)


@check
def changes_of_a_model_arrive_signed_in_mlflows_form():
    events = [
        "registered_model.created", "model_version.created", "model_version_tag.set", "model_version_tag.deleted",
        "model_version_alias.created", "model_version_alias.deleted",
    ]
    webhook = hook(*events)
    name = unique("model")
    client.create_registered_model(name, tags={"team": "ops"}, description="a model")
    same(told(events[0]), {"name": name, "tags": {"team": "ops"}, "description": "a model"}, "model")
    client.create_model_version(name, "s3://bucket/model", tags={"a": "b"}, description="a version")
    same(
        told(events[1]),
        {"name": name, "version": "1", "source": "s3://bucket/model", "run_id": None, "tags": {"a": "b"}, "description": "a version"},
        "version",
    )
    client.set_model_version_tag(name, "1", "key", "value")
    same(told(events[2]), {"name": name, "version": "1", "key": "key", "value": "value"}, "tag")
    client.delete_model_version_tag(name, "1", "key")
    same(told(events[3]), {"name": name, "version": "1", "key": "key"}, "tag")
    client.set_registered_model_alias(name, "champion", "1")
    same(told(events[4]), {"name": name, "alias": "champion", "version": "1"}, "alias")
    client.delete_registered_model_alias(name, "champion")
    same(told(events[5]), {"name": name, "alias": "champion"}, "alias")
    client.delete_webhook(webhook.webhook_id)


@check
def a_test_really_sends_and_says_what_was_answered():
    webhook = hook("model_version.created", "model_version_alias.created")
    result = client.test_webhook(webhook.webhook_id)
    same((result.success, result.response_status, result.response_body), (True, 200, "thanks"), "result")
    same(told("model_version.created")["name"], "example_model", "an example")
    client.test_webhook(webhook.webhook_id, event="model_version_alias.created")
    told("model_version_alias.created")
    client.update_webhook(webhook.webhook_id, secret="another")
    result = client.test_webhook(webhook.webhook_id)
    same((result.success, result.response_status, result.response_body), (False, 401, "not signed"), "result")
    received.get(timeout=60)
    client.update_webhook(webhook.webhook_id, url="http://127.0.0.1:1/")
    result = client.test_webhook(webhook.webhook_id)
    holds(not result.success and result.response_status is None and result.error_message, f"nobody there: {result}")
    client.delete_webhook(webhook.webhook_id)


@check
def what_is_not_lawful_is_refused():
    for name, url, events in [
        ("-bad-", URL, ["model_version.created"]),
        ("ok", "ftp://example.com", ["model_version.created"]),
        ("ok", "https://user:word@example.com", ["model_version.created"]),
        ("ok", URL, ["budget_policy.exceeded"]),
    ]:
        with refused("INVALID_PARAMETER_VALUE"):
            client.create_webhook(name=name, url=url, events=events)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.test_webhook("none")


@check
def a_protected_alias_is_refused_with_how_to_ask():
    name = unique("model")
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, "s3://bucket/model")
    client.set_registered_model_alias(name, "champion", "1")
    protection = urllib.request.Request(
        f"{os.environ['MLFLOW_TRACKING_URI']}/api/v1/models/{name}/aliases/champion/protection",
        data=json.dumps({"approvals": 1, "actor": "ada"}).encode(),
        headers={"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(protection).close()
    for move in (
        lambda: client.set_registered_model_alias(name, "champion", "2"),
        lambda: client.delete_registered_model_alias(name, "champion"),
        lambda: client.delete_model_version(name, "1"),
        lambda: client.delete_registered_model(name),
        lambda: client.rename_registered_model(name, unique("model")),
    ):
        with refused("PERMISSION_DENIED"):
            move()
    client.set_registered_model_alias(name, "champion", "1")
    same(client.get_model_version_by_alias(name, "champion").version, "1", "where it points")


def main():
    import run

    failed = [name for name in map(run.holds, CHECKS) if name]
    print(f"{len(CHECKS) - len(failed)} ok, {len(failed)} failed", flush=True)
    if failed:
        sys.exit("failed:\n  " + "\n  ".join(failed))


if __name__ == "__main__":
    main()
