"""Every exception Vallis raises on purpose.

::

    VallisError
    ├── UsageError              what the caller gave cannot be used (the command line exits with 2)
    │   ├── UnknownPart         no part of that name; says what comes nearest
    │   ├── SettingsError       a setting has the wrong type or an impossible value
    │   ├── DataError           shapes, NaN, an empty split, targets out of range
    │   │   ├── DataMissing     a data set is in none of the places it was looked for
    │   │   ├── DataCorrupt     a file is not what it says it is
    │   │   └── DataChanged     two passes over the data did not see the same examples
    │   ├── LossError           the loss is no mean over examples, or cannot be computed
    │   ├── ModelError          the model cannot be used, or returned something unexpected
    │   └── OutputError         the folder for results cannot be written
    └── StoreError              a stored record cannot be read back

Every message is one sentence that says what was required, what came, and what to do.
"""


class VallisError(Exception):
    """The root: ``except VallisError`` catches everything Vallis raises on purpose."""


class UsageError(VallisError, ValueError):
    """What the caller gave cannot be used; the command line exits with 2."""


class UnknownPart(UsageError):
    """No part of that name is in the catalog."""


class SettingsError(UsageError):
    """A setting has the wrong type or an impossible value."""


class DataError(UsageError):
    """Data of the wrong shape, with NaN, empty, or with targets out of range."""


class DataMissing(DataError):
    """A data set is in none of the places it was looked for."""


class DataCorrupt(DataError):
    """A file is truncated or is not what its name says."""


class DataChanged(DataError):
    """Two passes over the data did not see the same examples."""


class LossError(UsageError):
    """The loss is no mean over examples, or cannot be computed on what the model returns."""


class ModelError(UsageError):
    """The model cannot be used as it is, or returned something unexpected."""


class OutputError(UsageError):
    """The folder for results cannot be written."""


class StoreError(VallisError):
    """A stored record cannot be read back."""
