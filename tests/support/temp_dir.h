#pragma once

#include <string>

namespace iw::test {

// A folder of mode 0700 with a short path (sockets fit in it), removed with all below it at the
// end.
class TempDir {
  public:
    TempDir();
    ~TempDir();
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;

    const std::string& path() const { return path_; }
    std::string path(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

}  // namespace iw::test
