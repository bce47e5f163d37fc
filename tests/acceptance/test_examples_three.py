"""The examples and patterns on three workers with separate roots of one project, the first of them the user's own."""

import unittest

from example_tests import Examples, OneSlotExamples
from fleet import FleetCase
from pattern_tests import Patterns
from placement import Workers

THREE = ("project", "second", "third")


class Three(Examples, FleetCase):
    placement = Workers(*THREE)


class ThreeWithOneSlotEach(OneSlotExamples, FleetCase):
    placement = Workers(*THREE)

    def test_example_2_needs_all_three(self):
        """The validators wait for one another, and no worker has room for two."""
        self.run_side_by_side()
        roots = {roots[0] for roots in self.roots_that_ran().values()}
        self.assertEqual(roots, {str(self.folder / name) for name in THREE})


class ThreePatterns(Patterns, FleetCase):
    placement = Workers(*THREE)


if __name__ == "__main__":
    unittest.main()
