#include "common/base/ids.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <vector>

namespace iw {
namespace {

static_assert(!std::is_convertible_v<std::string, SessionId>, "ids are made on purpose only");
static_assert(!std::is_convertible_v<AgentName, SessionId>, "ids do not swap");

TEST(IsSessionId, TellsTheFormOnly) {
    for (const char* text : {"20251118-153042-grafana-agent", "20251118-153042-a",
                             "20251118-153042-x_1-2", "99999999-999999-z"}) {
        EXPECT_TRUE(is_session_id(text)) << text;
    }
}

TEST(IsSessionId, RefusesWhatCouldNameAnotherFile) {
    const std::vector<std::string> rows = {"",
                                           "20251118-153042",
                                           "20251118-153042-",
                                           "20251118-153042--a",
                                           "20251118-153042-_a",
                                           "20251118-153042-A",
                                           "20251118-153042-a/b",
                                           "20251118-153042-a.b",
                                           "20251118-153042-../../etc",
                                           "20251118 153042-a",
                                           "2025111-8153042-a",
                                           "20251118-153042-a\n",
                                           "20251118-153042-a b",
                                           "x0251118-153042-a",
                                           "20251118-153042-" + std::string(200, 'a')};
    for (const std::string& text : rows)
        EXPECT_FALSE(is_session_id(text)) << text;
}

TEST(IsAgentName, HasItsCharactersAndLength) {
    for (const std::string& text : {std::string("a"), std::string("grafana-agent"),
                                    std::string("0_x"), std::string(64, 'a')}) {
        EXPECT_TRUE(is_agent_name(text)) << text;
    }
    for (const std::string& text :
         {std::string(), std::string("-a"), std::string("_a"), std::string("A"), std::string("a.b"),
          std::string("a b"), std::string("\xC3\xBC"), std::string(65, 'a')}) {
        EXPECT_FALSE(is_agent_name(text)) << text;
    }
}

TEST(IsPlainName, NeverLooksLikeAFlagOrAHiddenFile) {
    for (const std::string& text : {std::string("host-1.example"), std::string("A:b@c"),
                                    std::string("_x"), std::string(128, 'x')}) {
        EXPECT_TRUE(is_plain_name(text)) << text;
    }
    for (const std::string& text :
         {std::string(), std::string("-x"), std::string(".x"), std::string("a/b"),
          std::string("a b"), std::string("a\n"), std::string(129, 'x')}) {
        EXPECT_FALSE(is_plain_name(text)) << text;
    }
}

TEST(Fence, OrdersByGenerationBeforeAttempt) {
    EXPECT_LT((Fence{.generation = 1, .attempt = 9}), (Fence{.generation = 2, .attempt = 1}));
    EXPECT_LT((Fence{.generation = 2, .attempt = 1}), (Fence{.generation = 2, .attempt = 2}));
    EXPECT_EQ((Fence{.generation = 2, .attempt = 2}), (Fence{.generation = 2, .attempt = 2}));
}

TEST(AttemptName, HoldsSessionGenerationAndAttempt) {
    const AttemptRef attempt{.session = SessionId("20251118-153042-a"),
                             .fence = {.generation = 2, .attempt = 3}};
    EXPECT_EQ(attempt_name(attempt), "20251118-153042-a-2-3");
    EXPECT_EQ(tmux_session_name(attempt.session), "iw-20251118-153042-a");
}

}  // namespace
}  // namespace iw
