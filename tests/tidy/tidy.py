#!/usr/bin/env python3
"""House rules as a test: include table, lengths, pure cores, no bare sleeps, honest texts.

usage: tidy.py FOLDER        checks the tree below FOLDER; one line a finding, exit 1 if there is any
       tidy.py --self-test   breaks each rule once in a small tree and expects to be told
"""

import pathlib
import re
import subprocess
import sys
import tempfile

LINE_WIDTH_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 800
TEST_FILE_LINES_MAX = 1500
MAIN_LINES_MAX = 120
CHECKS_PER_1000_LINES_MIN = 20

# What each part may include of ours; docs/architecture.md has the same table in prose.
COMMON = ["common/base"]
MAY_INCLUDE = {
    "common/base": COMMON,
    "common/messages": COMMON + ["common/messages"],
    "common/codec": COMMON + ["common/messages", "common/codec"],
    "common/io": COMMON + ["common/io"],
    "common/workspace": COMMON + ["common/messages", "common/io", "common/workspace"],
    "common/schema": COMMON + ["common/schema"],
    "broker/core": COMMON + ["common/messages", "broker/core"],
    "broker/journal": COMMON + ["common/messages", "common/codec", "common/io", "broker/core/record.h", "broker/journal"],
    "broker/database": COMMON
    + ["common/messages", "common/codec", "broker/core/record.h", "broker/core/event.h", "broker/database"],
    "broker/blobs": COMMON + ["common/io", "broker/blobs"],
    "broker": COMMON + ["common/messages", "common/codec", "common/io", "broker"],
    "worker/core": COMMON + ["common/messages", "worker/core"],
    "worker/attempt_store": COMMON + ["common/messages", "common/io", "worker/attempt_store"],
    "worker/agents": COMMON + ["common/messages", "common/io", "worker/agents"],
    "worker/tmux": COMMON + ["common/io", "worker/tmux"],
    "worker/launcher": COMMON + ["common/messages", "common/io", "worker/attempt_store", "worker/launcher"],
    "worker/log_writer": COMMON + ["common/messages", "common/io", "worker/attempt_store", "worker/log_writer"],
    "worker/housekeeping": COMMON
    + ["common/messages", "common/io", "common/workspace", "worker/housekeeping"],
    "worker/schema_check": COMMON + ["common/io", "common/schema", "worker/schema_check"],
    "worker": COMMON + ["common/messages", "common/codec", "common/io", "common/workspace", "worker"],
    "ctl": COMMON + ["common/messages", "common/codec", "common/io", "common/workspace", "common/schema", "ctl"],
}

PURE = ["broker/core", "worker/core", "common/base", "common/messages"]
PURE_BANNED = {
    r"\bnow\(\)": "the time is an argument",
    r"\b(steady_clock|system_clock|high_resolution_clock|clock_gettime|gettimeofday)\b": "the time is an argument",
    r"\b(random_device|mt19937|rand\(|srand\()": "chance is handed in",
    r"\bunordered_(map|set|multimap|multiset)\b": "iteration order must not depend on addresses or hashes",
    r"#include <(thread|mutex|atomic|future|condition_variable|fstream|iostream|filesystem|random)>": "cores are pure",
    r"#include <(sys/|unistd|fcntl|signal|poll|pthread|zmq|msgpack|spdlog|sqlite3)": "cores are pure",
    r"\b(socket|fopen|printf|getenv|syslog)\(": "cores do nothing in the world",
    r"\bthrow\b": "cores never throw",
}
PURE_EXCEPTIONS = {("common/base/check.h", "printf"), ("common/base/ids.h", "unordered")}
CORES = ["broker/core", "worker/core"]

SLEEPS = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep)\b|(?<![\w.])sleep\(")
SLEEP_HOME = "tests/support/"
TEXT_BANNED = {
    r"\b(TODO|FIXME|XXX)\b": "an open end: finish it, or file an issue and name it",
    r"/work/(main|shared)": "a path of one machine",
    r"\bGTEST_SKIP|\bDISABLED_": "a test that does not run",
    r"#if 0\b": "dead code",
}

CONTROL = re.compile(r"^(if|for|while|switch|else|do|try|catch|return)\b")
SCOPE = re.compile(r"^(inline\s+)?(namespace|extern)\b")
TYPE = re.compile(r"^(template\s*<.*>\s*)?(typedef\s+)?(class|struct|enum|union)\b")


def strip_code(text):
    """Blanks comments, strings and character literals; keeps every newline."""
    pattern = re.compile(
        r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n]){1,8}\'', re.S)

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return pattern.sub(blank, text)


def functions(text):
    """(name, first line, lines) of each outermost function body, by matching braces."""
    code = re.sub(r"(?m)^\s*#[^\n]*(\\\n[^\n]*)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), strip_code(text))
    stack = []
    start = 0
    line = 1
    for position, char in enumerate(code):
        if char == "\n":
            line += 1
        elif char == "{":
            header = " ".join(code[start:position].split())
            inside = any(kind == "function" for kind, _, _ in stack)
            plain = not SCOPE.match(header) and not TYPE.match(header) and not CONTROL.match(header)
            # An initialiser list or a brace in a default argument has no closing parenthesis of parameters.
            is_function = not inside and plain and ")" in header and not header.rstrip().endswith(("=", ",", "("))
            stack.append(("function" if is_function else "block", header, line))
            start = position + 1
        elif char == "}":
            if stack:
                kind, header, first = stack.pop()
                if kind == "function":
                    name = re.search(r"([\w:~]+)\s*\(", header)
                    yield (name.group(1) if name else header[:40], first, line - first + 1)
            start = position + 1
        elif char == ";":
            start = position + 1


def part_of(path):
    """The longest row of the include table that holds the file; None for tests and scripts."""
    rows = [row for row in MAY_INCLUDE if path.startswith(row + "/")]
    return max(rows, key=len) if rows else None


def check_includes(path, text):
    part = part_of(path)
    if part is None:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'#include "([^"]+)"', line)
        if match and not any(match.group(1) == row or match.group(1).startswith(row + "/")
                             for row in MAY_INCLUDE[part]):
            yield number, f"{part} may not include {match.group(1)} (docs/architecture.md, include table)"


def check_lengths(path, text):
    lines = text.splitlines()
    test = path.startswith("tests/")
    most = TEST_FILE_LINES_MAX if test else FILE_LINES_MAX
    if path.endswith("/main.cc"):
        most = MAIN_LINES_MAX
    if len(lines) > most:
        yield len(lines), f"{len(lines)} lines; at most {most}"
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_WIDTH_MAX and "http" not in line:
            yield number, f"{len(line)} columns; at most {LINE_WIDTH_MAX}"
    for name, first, length in functions(text):
        if length > FUNCTION_LINES_MAX and not (test and name == "TEST"):
            yield first, f"function {name} has {length} lines; at most {FUNCTION_LINES_MAX}"


def check_pure(path, text):
    if not any(path.startswith(row + "/") for row in PURE):
        return
    code = strip_code(text)
    originals = text.splitlines()
    for number, line in enumerate(code.splitlines(), 1):
        source = originals[number - 1] if line.lstrip().startswith("#") else line
        for pattern, why in PURE_BANNED.items():
            match = re.search(pattern, source)
            if match and not any(path == home and word in match.group(0) for home, word in PURE_EXCEPTIONS):
                yield number, f"{match.group(0)}: {why}"


def check_texts(path, text):
    own = path == "tests/tidy/tidy.py"
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, why in TEXT_BANNED.items():
            if not own and re.search(pattern, line):
                yield number, why
        if line != line.rstrip():
            yield number, "trailing space"


def check_sleeps(path, text):
    if path.startswith(SLEEP_HOME) or not path.endswith((".cc", ".h")):
        return
    for number, line in enumerate(strip_code(text).splitlines(), 1):
        if SLEEPS.search(line):
            yield number, "a bare sleep: wait on a condition with a cap"


def check_headers(path, text):
    if path.endswith(".h") and "#pragma once" not in text.splitlines()[:1]:
        yield 1, "a header begins with #pragma once"


def check_density(root, files):
    for core in CORES:
        code = checks = 0
        for path in files:
            if path.startswith(core + "/"):
                text = strip_code((root / path).read_text())
                code += sum(1 for line in text.splitlines() if line.strip())
                checks += len(re.findall(r"\bIW_CHECK\(", text))
        if code and checks * 1000 < CHECKS_PER_1000_LINES_MIN * code:
            yield core, 1, f"{checks} checks in {code} lines; at least {CHECKS_PER_1000_LINES_MIN} per 1,000"


def check_commands(root, files):
    """One file per command: the registry names exactly the files."""
    registry = root / "ctl/registry.cc"
    if not registry.exists():
        return
    text = registry.read_text()
    for path in files:
        match = re.fullmatch(r"ctl/commands/(\w+)\.cc", path)
        if match and f"{match.group(1)}_command" not in text:
            yield path, 1, f"{match.group(1)}_command is not in ctl/registry.cc"
    for name in sorted(set(re.findall(r"\b(\w+)_command\(", text))):
        if f"ctl/commands/{name}.cc" not in files:
            yield "ctl/registry.cc", 1, f"{name}_command has no file ctl/commands/{name}.cc"


CHECKS = [check_includes, check_lengths, check_pure, check_texts, check_sleeps, check_headers]
SOURCES = (".h", ".cc", ".py", ".sh", ".md", ".toml", ".cmake", ".txt")


def tree_files(root):
    git = subprocess.run(["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"],
                         capture_output=True, text=True, check=False)
    names = git.stdout.splitlines() if git.returncode == 0 and git.stdout else [
        str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    return sorted(name for name in names if (root / name).is_file())


def findings(root):
    files = tree_files(root)
    for path in files:
        if not path.endswith(SOURCES) and not path.startswith("scripts/"):
            continue
        text = (root / path).read_text(errors="replace")
        code = path.endswith((".h", ".cc"))
        for check in CHECKS:
            if check is check_texts or code:
                if check is check_texts and (path.endswith(".md") or "/golden/" in path):
                    continue
                for number, what in check(path, text):
                    yield path, number, what
    yield from check_density(root, files)
    yield from check_commands(root, files)


# One broken file a rule; the self-test expects each word in what is found.
BROKEN = {
    "broker/core/a.cc": ('#include "common/io/files.h"\nint f() { return g(); }\n', "may not include"),
    "worker/core/b.cc": ("auto t = std::chrono::steady_clock::now();\nvoid f() { IW_CHECK(true); }\n", "time is an argument"),
    "broker/core/c.cc": ("std::unordered_map<int, int> m;\n", "iteration order"),
    "worker/core/d.cc": ("int f() { return rand(); }\n", "chance is handed in"),
    "broker/core/e.cc": ("#include <sys/socket.h>\n", "cores are pure"),
    "broker/f.cc": ("void f() {\n" + "    g();\n" * 80 + "}\n", "function f has 82 lines"),
    "broker/g.cc": ("int x;\n" * 801, "801 lines"),
    "ctl/main.cc": ("int x;\n" * 121, "121 lines"),
    "tests/unit/h_test.cc": ("void f() { std::this_thread::sleep_for(x); }\n", "bare sleep"),
    "ctl/i.cc": ("// " + "x" * 120 + "\n", "columns"),
    "ctl/j.h": ("int x;\n", "pragma once"),
    "ctl/k.cc": ("// TO" + "DO later\n", "open end"),
    "worker/core/l.cc": ("int a;\n" * 60, "checks in"),
    "ctl/registry.cc": ("void f() { submit_command(); }\n", "has no file"),
    "ctl/commands/lost.cc": ("int x;\n", "lost_command is not in"),
}


def self_test():
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for path, (text, _) in BROKEN.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        found = [f"{path}: {what}" for path, _, what in findings(root)]
        for path, (_, word) in BROKEN.items():
            if not any(word in line for line in found):
                missed.append(f"{path}: nothing said \"{word}\"")
    for line in missed:
        print(f"tidy self-test: {line}")
    print(f"tidy self-test: {len(BROKEN) - len(missed)} passed, {len(missed)} failed")
    return 1 if missed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 64
    count = 0
    for path, number, what in findings(pathlib.Path(sys.argv[1]).resolve()):
        print(f"{path}:{number}: {what}")
        count += 1
    print(f"tidy: {count} findings")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
