"""What the scripts share: named checks, comparisons that say what they saw, and a store of Feast's over the server."""

import os
import traceback
from pathlib import Path
from urllib.parse import urlsplit

CHECKS = []


def check(function):
    """Marks a function as one check; its name says what is promised."""
    CHECKS.append(function)
    return function


def same(found, wanted, what="the answer"):
    if found != wanted:
        raise AssertionError(f"{what}:\n  found  {found!r}\n  wanted {wanted!r}")


def raised(kind, function, *mentions):
    """The call fails with that exception, whose text has these words."""
    try:
        function()
    except kind as error:
        for word in mentions:
            if word not in str(error):
                raise AssertionError(f"{error!r} does not mention {word!r}") from error
        return
    raise AssertionError(f"not refused; {kind.__name__} was due")


def run():
    """Runs every check; exits with 1 when one did not hold."""
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
    print(f"{len(CHECKS) - failed} ok, {failed} failed", flush=True)
    raise SystemExit(bool(failed))


def store(registry=None, project="default", token=None):
    """Feast's own store, with its three addresses turned to the server. `registry`: a file instead of the server's."""
    from feast import FeatureStore, RepoConfig

    url = os.environ["MILLPOND_URL"]
    address = urlsplit(url)
    remote = {"registry_type": "remote", "path": f"{address.hostname}:{address.port}"}
    auth = {"type": "oidc", "token": token} if token else {"type": "no_auth"}
    config = RepoConfig(
        project=project,
        provider="local",
        registry=str(registry) if registry else remote,
        online_store={"type": "remote", "path": url, "connection_retries": 0},
        offline_store={"type": "remote", "host": address.hostname, "port": address.port, "connection_retries": 0},
        auth=auth,
        entity_key_serialization_version=3,
        repo_path=Path.cwd(),
    )
    return FeatureStore(config=config)
