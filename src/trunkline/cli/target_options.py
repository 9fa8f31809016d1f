"""The options that say which platform a command talks to, and as whom."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from trunkline.cli import options
from trunkline.cli.target import Where


def where_of(
    *,
    endpoint: options.EndpointOption = None,
    state_dir: options.StateDirOption = None,
    insecure_http: options.InsecureOption = False,
    user_identity: options.UserOption = None,
) -> Where:
    """Return what the four options say."""
    return Where(
        endpoint=endpoint,
        state_dir=state_dir,
        insecure_http=insecure_http,
        user_identity=user_identity,
    )


_OPTIONS = inspect.signature(where_of).parameters


def takes_where(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command have the four options, in this order, in the place of its ``where``.

    What is declared is read from a command's signature, so this gives it another one.
    """

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        said = {name: values.pop(name) for name in _OPTIONS}
        command(**values, where=where_of(**said))

    signature = inspect.signature(command)
    declared: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        declared += _OPTIONS.values() if name == "where" else [parameter]
    with_options.__signature__ = signature.replace(parameters=declared)  # type: ignore[attr-defined]
    return with_options
