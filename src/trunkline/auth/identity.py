"""Who a request comes from, once its token is verified."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Identity:
    """One caller.

    Attributes:
        issuer: Who vouches for the caller.
        subject: The caller's stable name at that issuer.
        owner: The caller as one string, as sessions record their owner.
    """

    issuer: str
    subject: str
    owner: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once: it is asked for again and again, and kept for each connection.
        object.__setattr__(self, "owner", f"{self.issuer}|{self.subject}")
