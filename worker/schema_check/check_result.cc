#include "worker/schema_check/check_result.h"

#include "common/base/text.h"
#include "common/io/files.h"
#include "worker/schema_check/schema_check.h"

namespace iw::worker {
namespace {

constexpr int kTimeoutMs = 20'000;
constexpr std::size_t kWordsMax = 1024;
constexpr int kNotStarted = 127;

}  // namespace

Result<CheckedResult> check_result(const std::string& program, const std::string& schema,
                                   const std::string& file) {
    const io::CommandResult ran =
        io::run_command({program, file}, {}, schema, kWordsMax, kTimeoutMs);
    const std::string words = printable(trim(ran.output), true);
    switch (ran.exit_code) {
        case kResultFits:
            return CheckedResult{};
        case kResultMissing:
            return CheckedResult{.verdict = ResultVerdict::missing,
                                 .reason = "the agent ended without a result.json"};
        case kResultUnfit:
            return CheckedResult{.verdict = ResultVerdict::invalid,
                                 .reason = "result.json does not fit its schema: " + words};
        case kSchemaUnfit:
            return CheckedResult{.verdict = ResultVerdict::invalid,
                                 .reason = "the schema cannot be used: " + words};
        case kNotStarted:
            return make_error(ErrorCode::io, printable(trim(ran.errors), true));
        default:
            return CheckedResult{
                .verdict = ResultVerdict::invalid,
                .reason =
                    "result.json could not be checked against its schema within the limits "
                    "of time and memory"};
    }
}

}  // namespace iw::worker
