"""What the commands for admins share."""

from collections.abc import Iterable
from typing import Final

import typer

from trunkline.auth.grants import Grant

#: What a token is made for, on a platform whose state directory is at hand: whoever can read that
#: may do all of it. Impersonator is among it because nobody grants what they may not do.
ADMIN: Final = ("admin", "impersonator")


def check_grants(texts: Iterable[str]) -> None:
    """Refuse what isn't a grant.

    Raises:
        BadParameter: Naming what is.
    """
    for text in texts:
        try:
            Grant.parse(text)
        except ValueError as exc:
            raise typer.BadParameter(str(exc), param_hint="--role") from None
