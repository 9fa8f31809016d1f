"""Why a store can't be opened."""

from trunkline.protocol.errors import TrunklineError


class StoreNotOpenError(TrunklineError):
    """The store isn't there, or can't be used as it is."""

    code = "store_not_open"


class SchemaTooNewError(TrunklineError):
    """The store was written by a newer trunkline."""

    code = "schema_too_new"
