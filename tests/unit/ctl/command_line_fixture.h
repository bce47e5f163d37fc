#pragma once

// ictl's command line in this process, with a project and an endpoint in a temporary folder.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/io/files.h"
#include "ctl/command_line.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::test {

inline constexpr const char* kId = "20251118-151000-grafana-agent";

struct Outcome {
    int code = 0;
    std::string out;
    std::string err;
};

// Arguments, and the code and words that they must lead to.
struct BadRow {
    std::vector<std::string> arguments;
    int code;
    std::string says;
};

class CommandLineTest : public ::testing::Test {
  protected:
    void SetUp() override {
        // What a developer's own environment holds must not steer the tests.
        for (const char* variable : {"IW_SESSION_ID", "IW_SOCKET", "IW_CFG_BROKER_ENDPOINT"}) {
            ::unsetenv(variable);
        }
        ::setenv("IW_CFG_STATE_DIR", folder_.path("state").c_str(), 1);
        ::setenv("XDG_CONFIG_HOME", folder_.path("config").c_str(), 1);
        ASSERT_TRUE(io::make_folders(root_ + "/scripts/ops", 0755).ok());
        ASSERT_TRUE(io::write_file(prompt_, "look\n", 0644, io::Sync::none).ok());
        root_ = io::real_path(root_);
    }

    Outcome run(std::vector<std::string> arguments, const std::string& input = "") const {
        std::istringstream in(input);
        std::ostringstream out;
        std::ostringstream err;
        const ctl::Terminal terminal{
            .in = in, .out = out, .err = err, .in_is_terminal = in_is_terminal_};
        const int code = ctl::run_command_line(arguments, terminal);
        return {.code = code, .out = out.str(), .err = err.str()};
    }
    // With the fake broker and the project of the test.
    Outcome ask(std::vector<std::string> arguments, const std::string& input = "") const {
        arguments.insert(arguments.begin(),
                         {"--broker", endpoint_, "--project", root_, "--patience", "2s"});
        return run(std::move(arguments), input);
    }

    // One line that names the thing, the documented code, and nothing asked or made.
    void expect_refused(const std::vector<BadRow>& rows) const {
        FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
            return refusal(ErrorCode::internal, "reached the broker");
        });
        for (const BadRow& row : rows) {
            std::vector<std::string> arguments = row.arguments;
            arguments.insert(arguments.begin(), {"--broker", endpoint_, "--project", root_});
            const Outcome result = run(arguments);
            std::string shown;
            for (const std::string& argument : row.arguments)
                shown += argument.substr(0, 40) + " ";
            EXPECT_EQ(result.code, row.code) << shown << result.err;
            EXPECT_NE(result.err.find(row.says), std::string::npos) << shown << result.err;
            EXPECT_TRUE(result.err.starts_with("ictl: ")) << shown << result.err;
            EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << shown << result.err;
            EXPECT_EQ(result.out, "") << shown;
        }
        EXPECT_TRUE(broker.seen().empty()) << "nothing was asked of the broker";
        EXPECT_FALSE(io::exists(root_ + "/docs")) << "nothing was made";
    }

    TempDir folder_;
    std::string root_ = folder_.path("project");
    std::string prompt_ = folder_.path("task.md");
    std::string endpoint_ = "ipc://" + folder_.path("b.sock");
    bool in_is_terminal_ = false;
};

}  // namespace iw::test
