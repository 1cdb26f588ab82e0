"""Bad inputs of every kind, each with the message that its user must get."""

from bad_inputs.case import BadInput
from bad_inputs.environment import ENVIRONMENT
from bad_inputs.files import FILES
from bad_inputs.settings import SETTINGS
from bad_inputs.weights import SOURCES, WEIGHTS

ALL: tuple[BadInput, ...] = (*SETTINGS, *SOURCES, *FILES, *ENVIRONMENT, *WEIGHTS)  # what needs torch comes last

__all__ = ["ALL", "BadInput"]
