"""The user's document on the embedded fleet of a directory made by `ictl init`."""

import unittest

from document_tests import Document
from fleet import FleetCase


class Embedded(Document, FleetCase):
    pass


if __name__ == "__main__":
    unittest.main()
