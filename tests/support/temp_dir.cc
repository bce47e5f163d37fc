#include "tests/support/temp_dir.h"

#include <cstdlib>

#include "common/base/check.h"
#include "common/io/files.h"

namespace iw::test {

TempDir::TempDir() {
    const std::string base = io::environment("TMPDIR");
    path_ = (base.empty() ? "/tmp" : base) + "/iw-XXXXXX";
    IW_CHECK(::mkdtemp(path_.data()) != nullptr);
}

TempDir::~TempDir() {
    // What is left over is a nuisance of the machine, not a failure of the test.
    [[maybe_unused]] const Status removed = io::remove_tree(path_);
}

}  // namespace iw::test
