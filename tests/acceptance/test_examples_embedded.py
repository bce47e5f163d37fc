"""The examples and patterns on the embedded fleet of a directory made by `ictl init`."""

import unittest

from example_tests import Examples, OneSlotExamples
from fleet import FleetCase
from pattern_tests import Patterns


class Embedded(Examples, FleetCase):
    pass


class EmbeddedWithOneSlot(OneSlotExamples, FleetCase):
    pass


class EmbeddedPatterns(Patterns, FleetCase):
    pass


if __name__ == "__main__":
    unittest.main()
