#include "ctl/fetching.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "common/io/entropy.h"

namespace iw::ctl {
namespace {

// A blob that comes wrong this often is wrong where it lies.
constexpr int kSpoiledMax = 3;

// The whole of a blob; `what` it is goes into the error.
Result<std::string> fetch_blob(BrokerClient& broker, const SessionId& id, const std::string& blob,
                               std::uint64_t bytes_max, const std::string& what) {
    std::string bytes;
    while (true) {
        const Result<GetReply> piece =
            broker.call<GetReply>(GetRequest{.id = id.str(), .blob = blob, .offset = bytes.size()});
        if (!piece) return piece.error();
        if (piece->size > bytes_max) {
            return make_error(ErrorCode::too_large, what + " of " + id.str() + " has " +
                                                        std::to_string(piece->size) + " bytes");
        }
        bytes += piece->data;
        if (piece->data.empty() || bytes.size() >= piece->size) break;
    }
    if (io::sha256_hex(bytes) != blob)
        return make_error(ErrorCode::conflict, what + " of " + id.str() + " came damaged");
    return bytes;
}

}  // namespace

Result<workspace::Manifest> fetch_manifest(BrokerClient& broker, const SessionView& session) {
    const Result<std::string> text = fetch_blob(broker, session.id, session.deliverables->manifest,
                                                workspace::kManifestBytesMax, "the list of files");
    if (!text) return text.error();
    return workspace::parse_manifest(*text);
}

Result<std::string> fetch_result(BrokerClient& broker, const SessionView& session) {
    const Result<workspace::Manifest> manifest = fetch_manifest(broker, session);
    if (!manifest) return manifest.error();
    const auto file =
        std::ranges::find(manifest->files, "result.json",
                          [](const auto& each) -> std::string_view { return each.path; });
    if (file == manifest->files.end()) {
        return make_error(ErrorCode::not_found,
                          "no result.json travelled with " + session.id.str());
    }
    // What is empty has no blob.
    if (file->size == 0) return std::string();
    return fetch_blob(broker, session.id, file->sha256, kFetchedResultMax, "the result");
}

Result<std::vector<std::string>> fetch_files(BrokerClient& broker, const SessionId& id,
                                             workspace::Manifest manifest,
                                             workspace::Incoming& incoming) {
    std::vector<std::string> lines;
    std::map<std::string, int> spoiled;
    const auto give_up = [&](const std::string& blob, const std::string& why) {
        lines.push_back(std::to_string(incoming.give_up(blob)) + " of its files: " + why);
    };
    if (const Status expected = incoming.expect(std::move(manifest)); !expected)
        return expected.error();
    while (!incoming.complete()) {
        const workspace::Incoming::Wanted wanted = incoming.wanted(1).front();
        const Result<GetReply> piece = broker.call<GetReply>(
            GetRequest{.id = id.str(), .blob = wanted.blob, .offset = wanted.have});
        if (!piece && piece.error().code != ErrorCode::not_found) return piece.error();
        if (!piece || piece->data.empty()) {
            give_up(wanted.blob, piece ? "the broker ends it early" : piece.error().message);
            continue;
        }
        const Status took = incoming.append(wanted.blob, wanted.have, piece->data);
        if (took) continue;
        if (took.error().code != ErrorCode::conflict) return took.error();
        if (++spoiled[wanted.blob] >= kSpoiledMax) give_up(wanted.blob, took.error().message);
    }
    if (const Status installed = incoming.install(); !installed) return installed.error();
    return lines;
}

}  // namespace iw::ctl
