// One turn's steps and who gets their answers.

#include "broker/turn.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace iw::broker {
namespace {

constexpr std::int64_t kStartMs = 1'763'480'000'000;

struct Scene {
    Scene() : core(CoreConfig{}, 1) {
        core.started(now());
        turn.begin(now());
    }
    static Now now() { return {Timestamp(Duration(500'000)), wall_from_ms(kStartMs)}; }
    static Requester asker(std::uint64_t peer, const std::string& request) {
        return {.to = {.peer = {peer}, .request = request, .verb = "kill", .inner = {}},
                .principal = "uid:1000",
                .inside = {},
                .relayed_by = {}};
    }
    void submit(const SessionId& parent, int count) {
        SubmitEvent event;
        event.caller = caller_of(asker(1, "s"));
        for (int i = 0; i < count; ++i) {
            SubmitEvent::Item item;
            item.submission.agent = AgentName("a");
            item.submission.prompt = "do it";
            item.submission.parent = parent;
            event.items.push_back(std::move(item));
        }
        turn.step(core, std::move(event));
    }
    void kill(const SessionId& id, std::uint64_t peer, const std::string& request) {
        const Requester who = asker(peer, request);
        turn.step(core, who, KillEvent{.caller = caller_of(who), .id = id, .reason = "enough"}, {});
    }
    // "<peer> <request>: <what was killed>" of each answer since the last call.
    std::vector<std::string> answers() {
        std::vector<std::string> texts;
        for (const Outbound& outbound : std::exchange(turn.outgoing, {})) {
            const auto* answered = std::get_if<Outbound::Answered>(&outbound.what);
            if (answered == nullptr) continue;
            const auto* reply = std::get_if<Reply>(&answered->answer);
            const auto* killed = reply == nullptr ? nullptr : std::get_if<KillReply>(reply);
            texts.push_back(std::to_string(answered->to.peer.value) + " " + answered->to.request +
                            ": " + (killed == nullptr ? "error" : killed->session.id.str()));
        }
        return texts;
    }
    BrokerCore core;
    Turn turn;
};

TEST(Turn, TheAnswerToALongKillComesWithTheStepThatEndsIt) {
    Scene scene;
    scene.submit(SessionId(), 2);
    const std::vector<SessionId> roots = scene.core.match("", 2);
    ASSERT_EQ(roots.size(), 2u);
    for (int batch = 0; batch < 12; ++batch)
        scene.submit(roots[0], 500);
    scene.kill(roots[0], 7, "first");
    EXPECT_TRUE(scene.answers().empty());
    // Behind it, though it is small.
    scene.kill(roots[1], 8, "second");
    EXPECT_TRUE(scene.answers().empty());
    scene.turn.begin(Scene::now());
    scene.turn.step(scene.core, TickEvent{});
    EXPECT_EQ(scene.answers(),
              (std::vector{"7 first: " + roots[0].str(), "8 second: " + roots[1].str()}));
    EXPECT_TRUE(scene.core.match("", 1).empty());
}

}  // namespace
}  // namespace iw::broker
