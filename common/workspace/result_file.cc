#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "common/io/files.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

// The worker's one thread reads this: a sparse file of terabytes must not stop it.
constexpr off_t kHashedMax = 64 << 20;

// The agent's own word. Only of what we hold whole: a result beyond the inline limit is not parsed.
std::string status_word(const std::string& bytes) {
    const nlohmann::json json = nlohmann::json::parse(bytes, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return {};
    const auto found = json.find("status");
    if (found == json.end() || !found->is_string()) return {};
    const auto text = found->get<std::string>();
    constexpr std::size_t kWordMax = 64;
    return text.size() <= kWordMax ? text : std::string();
}

}  // namespace

Result<std::optional<ResultFile>> read_result(const std::string& workspace) {
    const std::string path = workspace + "/result.json";
    // The agent may have left a link, a fifo or a device under this name: none is followed or
    // waited for.
    const io::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file.valid()) {
        if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == ENXIO)
            return std::optional<ResultFile>();
        return io::system_error("cannot read", path);
    }
    struct stat status {};
    if (::fstat(file.get(), &status) != 0) return io::system_error("cannot read", path);
    if (!S_ISREG(status.st_mode)) return std::optional<ResultFile>();

    ResultFile result;
    if (status.st_size > kHashedMax) {
        result.size = static_cast<std::uint64_t>(status.st_size);
        return std::optional<ResultFile>(std::move(result));
    }
    io::Sha256 hash;
    std::array<char, 64 * 1024> buffer{};
    while (true) {
        const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return io::system_error("cannot read", path);
        if (count == 0) break;
        const std::string_view bytes(buffer.data(), static_cast<std::size_t>(count));
        hash.add(bytes);
        result.size += bytes.size();
        // It still grows: what was promised about time holds for it too.
        if (result.size > static_cast<std::uint64_t>(kHashedMax)) {
            return std::optional<ResultFile>(ResultFile{.size = result.size});
        }
        if (result.size <= limits::kResultInlineMax) result.bytes += bytes;
    }
    result.sha256 = hash.finish_hex();
    result.inlined = result.size <= limits::kResultInlineMax;
    if (!result.inlined) result.bytes.clear();
    if (result.inlined) result.status = status_word(result.bytes);
    return std::optional<ResultFile>(std::move(result));
}

}  // namespace iw::workspace
