#include "broker/read_only.h"

#include <utility>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

constexpr std::size_t kMarkMax = 4096;
constexpr const char* kNextStep =
    "; restore a backup (`ictl restore FOLDER`), or accept the loss with "
    "`ictl resume --accept-loss`";

}  // namespace

Result<ReadOnly> ReadOnly::load(const std::string& data_dir, const std::string& epoch) {
    ReadOnly state(data_dir + "/read-only");
    if (!io::exists(state.file_)) return state;
    const Result<std::string> text = io::read_file(state.file_, kMarkMax);
    if (!text.ok()) return text.error();
    const std::size_t line_end = text->find('\n');
    if (line_end == std::string::npos) {
        // Somebody has written it by hand: that it is there is enough.
        state.why_ = "the mark " + state.file_ + " says so, but not why" + kNextStep;
        return state;
    }
    if (text->substr(0, line_end) != epoch) {
        const Status removed = state.leave();
        if (!removed.ok()) return removed.error();
        return state;
    }
    state.why_ = std::string(trim(text->substr(line_end + 1)));
    return state;
}

std::string ReadOnly::evidence() const {
    return why_.substr(0, why_.find(kNextStep));
}

Status ReadOnly::enter(const std::string& epoch, std::string why) {
    why_ = std::move(why);
    return io::write_file(file_, epoch + "\n" + why_ + "\n", 0600, io::Sync::file_and_folder);
}

Status ReadOnly::leave() {
    why_.clear();
    return io::remove_file(file_);
}

std::string why_read_only(const std::string& who, const SeenHead& seen, const std::string& epoch,
                          Seq head) {
    if (seen.epoch != epoch || seen.seq <= head) return {};
    return who + " has seen record " + std::to_string(seen.seq) + " of epoch " +
           printable(epoch, true) + ", but the store here ends at " + std::to_string(head) + ": " +
           std::to_string(seen.seq - head) + " records are missing" + kNextStep;
}

}  // namespace iw::broker
