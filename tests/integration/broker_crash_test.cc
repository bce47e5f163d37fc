// Acknowledged is kept: clients submit without pause while the broker is killed at random moments.

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "broker_fixture.h"
#include "common/base/random.h"

namespace iw {
namespace {

using test::kCap;
using test::make_submission;
using test::TestBroker;
using test::TestPeer;

// Submits under fresh keys and repeats each until it is acknowledged; what it got for each key.
struct Submitter {
    std::string name;
    std::map<std::string, std::string> ids;
    bool contradicted = false;

    void run(const std::string& endpoint, const std::atomic<bool>& stop,
             std::atomic<int>& acknowledged) {
        io::Context context;
        TestPeer peer(context, endpoint);
        bool greeted = false;
        for (int number = 0; !stop.load(); ++number) {
            const std::string key = name + "-" + std::to_string(number);
            while (!ids.contains(key)) {
                if (!greeted) greeted = peer.hello().ok();
                const Result<SubmitReply> reply = peer.call<SubmitReply>(
                    SubmitRequest{.sessions = {make_submission("helper", "prompt of " + key, key)}},
                    Duration(500));
                if (!reply.ok()) {
                    greeted = greeted && reply.error().code != ErrorCode::no_session;
                    continue;
                }
                const SubmitOutcome& outcome = reply->sessions.front();
                if (outcome.error) {
                    contradicted = true;
                    return;
                }
                ids[key] = outcome.id.str();
                acknowledged.fetch_add(1);
            }
        }
    }
};

std::vector<SessionView> list_all(TestPeer& peer) {
    std::vector<SessionView> all;
    ListRequest request;
    do {
        const Result<ListReply> page = peer.call<ListReply>(request);
        if (!page.ok()) {
            ADD_FAILURE() << page.error().message;
            break;
        }
        all.insert(all.end(), page->sessions.begin(), page->sessions.end());
        request.after = page->next;
    } while (!request.after.empty());
    return all;
}

TEST(BrokerCrash, AcknowledgedSubmissionsSurviveTenKills) {
    constexpr int kKills = 10;
    constexpr int kClients = 4;
    TestBroker broker;
    broker.start();
    std::atomic<bool> stop{false};
    std::atomic<int> acknowledged{0};
    std::vector<Submitter> submitters(kClients);
    std::vector<std::thread> threads;
    for (int i = 0; i < kClients; ++i) {
        submitters[static_cast<std::size_t>(i)].name = "client" + std::to_string(i);
        threads.emplace_back([&, i] {
            submitters[static_cast<std::size_t>(i)].run(broker.endpoint(), stop, acknowledged);
        });
    }
    const std::uint64_t seed = static_cast<std::uint64_t>(to_ms(io::wall_now()));
    Random random(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    for (int kill = 0; kill < kKills; ++kill) {
        // Each life of the broker acknowledges something, then ends in the middle of more.
        const int wanted = acknowledged.load() + 1 + static_cast<int>(random.below(300));
        EXPECT_TRUE(test::wait_until([&] { return acknowledged.load() >= wanted; }, kCap));
        broker.restart();
    }
    stop.store(true);
    for (std::thread& thread : threads)
        thread.join();

    io::Context context;
    TestPeer peer(context, broker.endpoint());
    ASSERT_TRUE(peer.hello().ok()) << broker.process().log_text();
    std::set<std::string> listed;
    for (const SessionView& session : list_all(peer)) {
        EXPECT_TRUE(listed.insert(session.id.str()).second) << session.id.str() << " listed twice";
    }
    std::size_t keys = 0;
    for (const Submitter& submitter : submitters) {
        EXPECT_FALSE(submitter.contradicted);
        keys += submitter.ids.size();
        for (const auto& [key, id] : submitter.ids)
            EXPECT_TRUE(listed.contains(id)) << key << " " << id;
    }
    // Every key was repeated until it was acknowledged, so there is exactly one session for each.
    EXPECT_EQ(listed.size(), keys);
    EXPECT_GT(keys, static_cast<std::size_t>(kKills));
}

}  // namespace
}  // namespace iw
