#include "broker/journal/unit_records.h"

#include <string>
#include <string_view>

#include "broker/journal/little_endian.h"
#include "broker/journal/record_codec.h"

namespace iw::broker {

Status each_record(const Unit& unit, const std::function<Status(const Record&)>& each) {
    std::string_view rest = unit.payload;
    for (Seq seq = unit.first; seq < unit.first + unit.count; ++seq) {
        const bool has_length = rest.size() >= kRecordLengthBytes;
        const std::size_t size = has_length ? get_at<std::uint32_t>(rest, 0) : 0;
        if (!has_length || size > rest.size() - kRecordLengthBytes) {
            return make_error(ErrorCode::config,
                              "record " + std::to_string(seq) + " is missing in its journal unit");
        }
        const Result<Record> record = decode_record(rest.substr(kRecordLengthBytes, size), seq);
        if (!record) return record.error();
        const Status taken = each(*record);
        if (!taken) return taken;
        rest.remove_prefix(kRecordLengthBytes + size);
    }
    return Done{};
}

}  // namespace iw::broker
