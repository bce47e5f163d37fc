"""CONTRACT.md names the test of each rule: every test that it names exists, and no contract test is missing there."""

import pathlib
import re
import unittest

HERE = pathlib.Path(__file__).resolve().parent
NAMED = re.compile(r"`([A-Z]\w*)\.(test_\w+|[A-Z]\w+)`")


def python_tests(path):
    """(class, test) of one file."""
    text = path.read_text()
    for match in re.finditer(r"^class (\w+)(?:\(.*?\))?:\n(.*?)(?=^class |^if __name__|\Z)", text, re.M | re.S):
        for name in re.findall(r"^    def (test_\w+)\(", match[2], re.M):
            yield match[1], name


class Table(unittest.TestCase):
    def setUp(self):
        self.named = set(NAMED.findall((HERE / "CONTRACT.md").read_text()))

    def test_every_named_test_exists(self):
        existing = {pair for path in HERE.glob("*test*.py") for pair in python_tests(path)}
        for path in HERE.parent.rglob("*_test.cc"):
            existing |= set(re.findall(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", path.read_text(), re.M))
        self.assertEqual(self.named - existing, set())

    def test_every_contract_test_is_named(self):
        contract = {pair for path in HERE.glob("test_contract_*.py") if path.name != "test_contract_table.py"
                    for pair in python_tests(path)}
        self.assertEqual(contract - self.named, set())


if __name__ == "__main__":
    unittest.main()
