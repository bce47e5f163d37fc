#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/workspace/deliverables.h"

namespace iw::workspace {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;
constexpr std::size_t kPartMax = 255;  // of a name in a folder, on every file system that counts
constexpr std::size_t kDepthMax = 64;
constexpr int kPlain = 0644;
constexpr int kExecutable = 0755;
constexpr std::size_t kLineMax = 400;  // of what a peer says was left out

Error wrong(const std::string& what) {
    return make_error(ErrorCode::bad_request, "not a manifest of deliverables: " + what);
}

bool is_sha256(std::string_view text) {
    return text.size() == 64 &&
           text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool is_ours(std::string_view name) {
    return name == "prompt.md" || name == "state.json" || name == "session.log" ||
           name.starts_with(".state.json.") || name.starts_with(kIncomingPrefix);
}

std::string text_of(const Json& json, const char* field) {
    const auto found = json.find(field);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<DeliveredFile> parse_file(const Json& json) {
    if (!json.is_object()) return wrong("an entry is no object");
    DeliveredFile file{.path = text_of(json, "path"), .size = 0, .sha256 = text_of(json, "sha256")};
    if (!is_deliverable_path(file.path))
        return wrong("path \"" + short_line(file.path, 200) + "\" may not travel");
    const auto size = json.find("size");
    if (size == json.end() || !size->is_number_unsigned()) return wrong(file.path + " has no size");
    file.size = size->get<std::uint64_t>();
    if (!is_sha256(file.sha256)) return wrong(file.path + " has no checksum");
    const Json mode = json.value("mode", Json());
    if (mode != kPlain && mode != kExecutable) return wrong(file.path + " has no mode");
    file.executable = mode == kExecutable;
    return file;
}

// The name of a file under which another one would have to stand.
std::string file_in_the_way(const Manifest& manifest) {
    std::set<std::string_view> paths;
    for (const DeliveredFile& file : manifest.files)
        paths.insert(file.path);
    for (const std::string_view path : paths) {
        for (auto slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1)) {
            if (paths.contains(path.substr(0, slash))) return std::string(path.substr(0, slash));
        }
    }
    return {};
}

}  // namespace

bool is_deliverable_path(std::string_view path) {
    if (path.empty() || path.size() > limits::kPathMax) return false;
    if (!is_utf8(path) || printable(path, /*single_line=*/true) != path) return false;
    const std::vector<std::string> parts = split(path, '/');
    if (parts.size() > kDepthMax || is_ours(parts.front())) return false;
    return std::ranges::all_of(parts, [](const std::string& part) {
        return !part.empty() && part.size() <= kPartMax && part != "." && part != "..";
    });
}

std::uint64_t total_bytes(const Manifest& manifest) {
    std::uint64_t bytes = 0;
    for (const DeliveredFile& file : manifest.files)
        bytes += file.size;
    return bytes;
}

std::string format_manifest(const Manifest& manifest) {
    Json files = Json::array();
    for (const DeliveredFile& file : manifest.files) {
        files.push_back({{"path", file.path},
                         {"size", file.size},
                         {"sha256", file.sha256},
                         {"mode", file.executable ? kExecutable : kPlain}});
    }
    Json json{{"version", kVersion}, {"files", std::move(files)}};
    if (!manifest.left_out.empty()) json["left_out"] = manifest.left_out;
    return json.dump();
}

Result<Manifest> parse_manifest(std::string_view text) {
    if (text.size() > kManifestBytesMax) return wrong("it is too long");
    const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return wrong("it is no JSON object");
    if (json.value("version", Json()) != Json(kVersion)) return wrong("unknown version");
    const auto files = json.find("files");
    if (files == json.end() || !files->is_array()) return wrong("no files");
    if (files->size() > kManifestFilesMax) return wrong("too many files");
    Manifest manifest;
    std::uint64_t bytes = 0;
    std::map<std::string, std::uint64_t> sizes;  // by checksum
    for (const Json& entry : *files) {
        Result<DeliveredFile> file = parse_file(entry);
        if (!file) return file.error();
        if (!manifest.files.empty() && file->path <= manifest.files.back().path)
            return wrong("the files are not in order");
        if (__builtin_add_overflow(bytes, file->size, &bytes)) return wrong("sizes without end");
        if (sizes.try_emplace(file->sha256, file->size).first->second != file->size)
            return wrong("two sizes of " + file->sha256);
        manifest.files.push_back(std::move(*file));
    }
    for (const Json& line : json.value("left_out", Json::array())) {
        if (manifest.left_out.size() > Collector::kLeftOutMax) break;
        if (line.is_string())
            manifest.left_out.push_back(short_line(line.get<std::string>(), kLineMax));
    }
    const std::string both = file_in_the_way(manifest);
    if (!both.empty()) return wrong(both + " is a file and a folder");
    return manifest;
}

}  // namespace iw::workspace
