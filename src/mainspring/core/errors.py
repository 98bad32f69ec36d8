"""Every error mainspring raises on purpose.

MainspringError                     exit code 1 unless said otherwise
├── UsageError                      a wrong call: exit code 2
│   ├── DeclarationError            an argument of Loop, Pipeline, step or one of their parts
│   ├── SettingsError               mainspring.toml, MAINSPRING_* or a flag
│   └── ContractError               a contract file, such as NAME.schema.toml
├── SourceError                     a source that can't be read
│   ├── SourceNotFound
│   └── SourceEmpty
├── DataError                       rows or columns that can't be used
│   ├── SchemaMismatch
│   ├── TargetUnusable
│   ├── DuplicateKeys
│   ├── TooManyBadRows
│   └── PersonalData                columns that look personal, where that blocks
├── FeaturesError                   the user's features function
├── LeakFound                       a column that gives the target away
├── TrainingError                   an estimator or a search that can't do the task
│   └── UnknownMetric
├── BundleError                     a package that can't be used
│   ├── BundleChanged               its bytes are not those that were signed
│   └── BundleUntrusted             nobody we trust signed it
├── StoreError                      the home folder or something in it
│   ├── HomeDamaged
│   ├── HomeUnwritable              no room, no permission, a disk that fails
│   ├── NotInStore
│   ├── Overtaken                   somebody else made the next version of a table first
│   └── RouteChanged                somebody else changed the routing record first
├── StepFailed                      a step of a run ended with an error
├── CodeChanged                     a module was edited after this process had imported it
├── ServiceError                    a server or process that can't start or answer
│   └── PortTaken
└── RequestError                    an HTTP request that is refused; carries its status
    ├── InvalidRequest 400
    ├── Unauthorized 401
    ├── NotServed 404
    ├── MethodNotTaken 405
    ├── Conflict 409
    ├── TooLarge 413
    ├── WrongFormat 415
    ├── InvalidRows 422
    ├── NotExplained 422
    ├── TooMany 429
    └── Unavailable 503
"""

from __future__ import annotations

from mainspring.core.hiding import hidden


class MainspringError(Exception):
    """Something went wrong; the message says what, with which value unless that looks personal, and what to do next."""

    exit_code = 1

    def __init__(self, *told: object) -> None:
        super().__init__(*(hidden(each) if isinstance(each, str) else each for each in told))


class UsageError(MainspringError):
    """The call is wrong."""

    exit_code = 2


class DeclarationError(UsageError):
    """An argument of a declaration can't be used."""


class SettingsError(UsageError):
    """A setting can't be used."""


class ContractError(UsageError):
    """A contract file can't be used."""


class SourceError(MainspringError):
    """A source can't be read."""


class SourceNotFound(SourceError):
    """A source's file, table or database doesn't exist."""


class SourceEmpty(SourceError):
    """A source gives no rows."""


class DataError(MainspringError):
    """Rows or columns can't be used."""


class SchemaMismatch(DataError):
    """Columns differ from the frozen schema."""


class TargetUnusable(DataError):
    """The target is missing, constant or empty."""


class DuplicateKeys(DataError):
    """Rows repeat a key that should be unique."""


class TooManyBadRows(DataError):
    """More rows break the contract than the loop tolerates."""


class PersonalData(DataError):
    """Columns look personal, and the loop's Privacy says nothing of them."""


class FeaturesError(MainspringError):
    """The features function breaks its promise: row-wise, same rows, blind to the target."""


class LeakFound(MainspringError):
    """A column gives the target away."""


class TrainingError(MainspringError):
    """An estimator or a search can't do the task."""


class UnknownMetric(TrainingError):
    """No metric has this name."""


class BundleError(MainspringError):
    """A package can't be used."""


class BundleChanged(BundleError):
    """The package was changed after it was signed."""


class BundleUntrusted(BundleError):
    """The package isn't signed by a trusted installation."""


class StoreError(MainspringError):
    """The home folder or something in it can't be used."""


class HomeDamaged(StoreError):
    """The home folder's state is damaged."""


class HomeUnwritable(StoreError):
    """The home folder has no room, or can't be written."""


class NotInStore(StoreError):
    """The home folder doesn't hold this."""


class Overtaken(StoreError):
    """Somebody else made the next version of the table first; read it and try again."""


class RouteChanged(StoreError):
    """Somebody else changed the routing record first."""


class StepFailed(MainspringError):
    """A step of a run ended with an error."""


class CodeChanged(MainspringError):
    """A module was edited after this process had imported it."""


class ServiceError(MainspringError):
    """A server or process can't start or answer."""


class PortTaken(ServiceError):
    """Another program listens on the port."""


class RequestError(MainspringError):
    """An HTTP request is refused."""

    status = 400


class InvalidRequest(RequestError):
    """The request can't be read."""


class Unauthorized(RequestError):
    """The request comes without the token."""

    status = 401


class NotServed(RequestError):
    """No loop, version or prediction has this name."""

    status = 404


class MethodNotTaken(RequestError):
    """The path is right, the method isn't."""

    status = 405


class Conflict(RequestError):
    """The request contradicts what is already known."""

    status = 409


class TooLarge(RequestError):
    """The request is larger than allowed."""

    status = 413


class WrongFormat(RequestError):
    """The body is of a format, or in an encoding, that isn't read here."""

    status = 415


class InvalidRows(RequestError):
    """The rows don't fit the loop's schema."""

    status = 422


class NotExplained(RequestError):
    """This model's answers can't be taken apart cheaply."""

    status = 422


class TooMany(RequestError):
    """More requests come than can be answered in time."""

    status = 429


class Unavailable(RequestError):
    """The loop can't do what is asked now: its model can't be loaded, or a label can't be kept."""

    status = 503
