"""What the scripts share: named checks, comparisons that say what they saw, and names nobody else uses."""

import time
import uuid
from contextlib import contextmanager

from mlflow.exceptions import MlflowException, RestException

CHECKS = []


def check(function):
    """Marks a function as one check; its name says what is promised."""
    CHECKS.append(function)
    return function


def unique(what):
    """A name of that kind that no other check and no earlier run of the scripts has given."""
    return f"{what}-{uuid.uuid4().hex[:12]}"


def same(found, wanted, what="the answer"):
    if found != wanted:
        raise AssertionError(f"{what}:\n  found  {found!r}\n  wanted {wanted!r}")


def near(found, wanted, within, what="the numbers"):
    for place, (a, b) in enumerate(zip(found, wanted, strict=True)):
        if not abs(a - b) <= within:
            raise AssertionError(f"{what}: at {place} {a!r} is not within {within} of {b!r}")


def holds(truth, what):
    if not truth:
        raise AssertionError(what)


@contextmanager
def refused(*codes):
    """The server itself (not the client before it asks) refuses with one of these codes."""
    try:
        yield
    except MlflowException as error:
        # The client wraps some of the server's refusals in advice of its own.
        if not isinstance(error, RestException) and not isinstance(error.__context__, RestException):
            raise
        if error.error_code not in codes:
            raise AssertionError(f"refused with {error.error_code}, not {' or '.join(codes)}: {error}") from error
        if not error.message.strip():
            raise AssertionError(f"{error.error_code} came without a message") from error
    else:
        raise AssertionError(f"not refused; {' or '.join(codes)} was due")


def pages(call):
    """All items of a listing, by its page tokens, and how long each page was."""
    items, sizes, token = [], [], None
    while True:
        page = call(token)
        items.extend(page)
        sizes.append(len(page))
        token = page.token
        if not token:
            return items, sizes


def now_ms():
    return int(time.time() * 1000)
