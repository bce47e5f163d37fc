#pragma once

// What a disk would forget: every change below one folder is logged with what it changed, before it
// is made, and every sync with what it made durable. tests/chaos/power_cut.py reads the log back
// and undoes what no sync had reached. The log is a file, so it outlives kill -9 of whoever wrote
// it; all processes of one fleet share it.
//
// Record: a mark (\1IW TAB), one line "KIND TAB fields TAB number of bytes NEWLINE", then as many
// raw bytes. A position in the log serves as time. Nothing here calls what the shim replaces: only
// system calls.

#include <sys/types.h>

#include <cstdint>
#include <mutex>
#include <string>

namespace iw::faults {

class UndoLog {
  public:
    // `folder`: absolute, what is below it is watched. `log`: an existing folder with room whatever
    // becomes of that. `saved`: one on the same file system, outside of it, for second names of
    // files. All empty: nothing is logged.
    UndoLog(std::string folder, const std::string& log, std::string saved);

    // Below the folder.
    bool covers(const std::string& path) const;
    // That, or the folder itself: its sync makes the names in it durable.
    bool knows(const std::string& path) const;

    // Held around a change and its record, so that the log has the order of the changes: by the
    // threads of this process and by all processes.
    class Turn {
      public:
        explicit Turn(UndoLog& log);
        ~Turn();
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

      private:
        UndoLog& log_;
    };

    // Within a Turn, before the change itself.
    void will_write(int fd, off_t offset, std::size_t size);
    void will_resize(int fd, off_t size);
    void will_create(const std::string& path);
    void will_make_folder(const std::string& path);
    void will_remove_folder(const std::string& path);
    void will_link(const std::string& from, const std::string& to);
    void will_rename(const std::string& from, const std::string& to);
    void will_unlink(const std::string& path);

    // Now, as did_sync takes it; before the sync begins.
    off_t now();
    void did_sync(int fd, off_t began);

  private:
    friend class Turn;

    void append(const std::string& line, const std::string& bytes);
    void keep(const std::string& source, ino_t file);
    void save_range(const std::string& head, int fd, off_t offset, off_t end);

    std::string folder_;
    std::string saved_;
    int fd_ = -1;
    std::mutex mutex_;
};

// Of a file: 0 when there is none.
ino_t inode_of(const std::string& path);

}  // namespace iw::faults
