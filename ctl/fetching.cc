#include "ctl/fetching.h"

#include <map>
#include <utility>

#include "common/io/entropy.h"

namespace iw::ctl {
namespace {

// A blob that comes wrong this often is wrong where it lies.
constexpr int kSpoiledMax = 3;

}  // namespace

Result<workspace::Manifest> fetch_manifest(BrokerClient& broker, const SessionView& session) {
    const std::string& name = session.deliverables->manifest;
    std::string text;
    while (true) {
        const Result<GetReply> piece = broker.call<GetReply>(
            GetRequest{.id = session.id.str(), .blob = name, .offset = text.size()});
        if (!piece) return piece.error();
        text += piece->data;
        if (piece->data.empty() || text.size() >= piece->size) break;
        if (text.size() > workspace::kManifestBytesMax) break;
    }
    if (io::sha256_hex(text) != name) {
        return make_error(ErrorCode::conflict,
                          "the list of files of " + session.id.str() + " came damaged");
    }
    return workspace::parse_manifest(text);
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
