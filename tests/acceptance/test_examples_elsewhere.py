"""The examples and patterns where the only worker has another root: every file of a session has to travel."""

import unittest

from example_tests import Examples, OneSlotExamples
from fleet import FleetCase
from pattern_tests import Patterns
from placement import Workers


class Elsewhere(Examples, FleetCase):
    placement = Workers("elsewhere")


class ElsewhereWithOneSlot(OneSlotExamples, FleetCase):
    placement = Workers("elsewhere")


class ElsewherePatterns(Patterns, FleetCase):
    placement = Workers("elsewhere")


if __name__ == "__main__":
    unittest.main()
