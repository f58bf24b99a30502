"""The errors that callers of the domain can meet, and whether trying again helps."""


class ThermonetError(Exception):
    """Anything that Thermonet itself found wrong."""


class ValidationError(ThermonetError):
    """Input breaks a rule; the message is `<field path>: <reason>`. Trying again does not help."""


class ReadingConflictError(ThermonetError):
    """The reading was accepted before with another value. Trying again does not help."""


class ReadingInProgressError(ThermonetError):
    """The same reading is being processed right now. Trying again later helps."""


class ServiceUnavailableError(ThermonetError):
    """A service behind this one does not answer. Trying again later helps, with exactly one effect."""


class ObjectNotFoundError(ThermonetError):
    """An object that should be in the bucket is not. Trying again from the start helps if a later run took it."""


class NotFoundError(ThermonetError):
    """Nothing is there under the name that a request gives. Trying again helps after a sensor or a run has made it."""


class BodyTooLargeError(ThermonetError):
    """A request is larger than the contract allows. Sending less at a time helps."""


class NotAuthenticatedError(ThermonetError):
    """The caller has not shown who it is, or no longer. A fresh token helps."""


class ForbiddenError(ThermonetError):
    """The caller's token or a limit of the settings does not allow this. Another token or limit helps."""
