"""The user's document where the only worker has another root: every file of a session has to travel."""

import unittest

from document_tests import Document
from fleet import FleetCase
from placement import Workers


class Elsewhere(Document, FleetCase):
    placement = Workers("elsewhere")


if __name__ == "__main__":
    unittest.main()
