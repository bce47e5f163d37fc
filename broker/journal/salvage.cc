#include "broker/journal/salvage.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "broker/journal/file_bytes.h"
#include "broker/journal/segment.h"
#include "broker/journal/unit_records.h"
#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

struct Found {
    SegmentHeader header;
    std::string path;
};

class Salvager {
  public:
    explicit Salvager(const std::function<Status(const Record&)>& each) : each_(each) {}

    Result<Salvage> run(const std::string& folder);

  private:
    void look(const std::string& path);
    void leave_out_others();
    void leave_out_replaced();
    // False: what comes behind it cannot be reached.
    Result<bool> take(const Found& segment, bool is_last);
    void stop_at(const std::string& why);

    const std::function<Status(const Record&)>& each_;
    std::vector<Found> segments_;
    Salvage salvage_;
};

// The first thing that is wrong is what is told.
void Salvager::stop_at(const std::string& why) {
    if (salvage_.damage.empty()) salvage_.damage = why;
}

void Salvager::look(const std::string& path) {
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return stop_at(io::system_error("cannot open", path).message);
    const Result<std::string> bytes = read_bytes(fd.get(), 0, kSegmentHeaderBytes, path);
    if (!bytes) return stop_at(bytes.error().message);
    const Result<SegmentHeader> header = decode_header(*bytes, path);
    if (!header) return stop_at(header.error().message);
    segments_.push_back({.header = *header, .path = path});
}

// A segment of another journal among them is not ours to judge; the newest one says whose they are.
void Salvager::leave_out_others() {
    const JournalId id = segments_.back().header.journal;
    salvage_.id = to_hex(std::string_view(id.data(), id.size()));
    const auto is_other = [&id](const Found& each) { return each.header.journal != id; };
    if (std::ranges::any_of(segments_, is_other)) stop_at("segments of another journal among them");
    std::erase_if(segments_, is_other);
}

void Salvager::leave_out_replaced() {
    std::vector<std::uint64_t> replaced;
    for (const Found& each : segments_)
        replaced.push_back(each.header.replaces);
    std::erase_if(segments_, [&replaced](const Found& each) {
        return std::ranges::find(replaced, each.header.number) != replaced.end();
    });
}

Result<bool> Salvager::take(const Found& segment, bool is_last) {
    if (segment.header.first != salvage_.last + 1) {
        stop_at(segment.path + " begins with record " + std::to_string(segment.header.first));
        return false;
    }
    const io::UniqueFd fd(::open(segment.path.c_str(), O_RDONLY | O_CLOEXEC));
    const Result<std::string> bytes =
        fd.valid() ? read_bytes(fd.get(), 0, segment.header.bytes, segment.path)
                   : Result<std::string>(io::system_error("cannot open", segment.path));
    if (!bytes) {
        stop_at(bytes.error().message);
        return false;
    }
    std::optional<Error> refused;
    const auto pass_on = [&](const Record& record) -> Status {
        const Status taken = each_(record);
        if (!taken) refused = taken.error();
        if (taken) salvage_.last = record.seq;
        return taken;
    };
    const Result<Scan> scan = scan_segment(
        *bytes, segment.header, [&](const Unit& unit) { return each_record(unit, pass_on); });
    if (refused) return *refused;
    if (!scan) stop_at(segment.path + ": " + scan.error().message);
    if (scan.ok() && scan->later) {
        stop_at(segment.path + " is damaged at offset " + std::to_string(scan->end));
    }
    return scan.ok() && !scan->later && !is_last;
}

Result<Salvage> Salvager::run(const std::string& folder) {
    for (const std::string& name : io::list_folder(folder)) {
        if (name.ends_with(".segment")) look(folder + "/" + name);
    }
    if (segments_.empty()) return salvage_;
    std::ranges::sort(segments_, {}, [](const Found& each) { return each.header.number; });
    leave_out_others();
    leave_out_replaced();
    salvage_.first = segments_.front().header.first;
    salvage_.last = salvage_.first - 1;
    for (std::size_t i = 0; i < segments_.size(); ++i) {
        const Result<bool> on = take(segments_[i], i + 1 == segments_.size());
        if (!on) return on.error();
        if (!*on) break;
    }
    return salvage_;
}

}  // namespace

Result<Salvage> salvage_journal(const std::string& folder,
                                const std::function<Status(const Record&)>& each) {
    return Salvager(each).run(folder);
}

}  // namespace iw::broker
