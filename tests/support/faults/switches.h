#pragma once

// What a test turns on while the programs run: files in one folder, one switch each, named after
// the program ("ibroker") or "all".
//
//   <program>.sync-error  "N": the N-th sync from now fails with EIO, once; what it should have
//   made
//                         durable stays forgettable
//   <program>.sync-stall  "S": every sync takes S seconds longer while the file is there
//   all.clock             8 bytes, little endian: milliseconds that the wall clock is ahead;
//   mapped, so
//                         a change is a jump. CLOCK_MONOTONIC and CLOCK_BOOTTIME stay as they are
//   all.boot-id           what /proc/sys/kernel/random/boot_id says

#include <cstdint>
#include <string>

namespace iw::faults {

class Switches {
  public:
    // Empty: all off.
    explicit Switches(std::string folder);

    // Waits as long as the stall asks. True: this sync has to fail.
    bool sync_fails();
    std::int64_t clock_ahead_ms() const;
    // Empty: the machine's own.
    std::string boot_id_file() const;

  private:
    std::string folder_;
    std::string program_;
    const std::int64_t* clock_ = nullptr;
};

}  // namespace iw::faults
