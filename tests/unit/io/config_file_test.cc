#include "common/io/config_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "common/io/files.h"
#include "common/io/socket.h"
#include "tests/support/temp_dir.h"

namespace iw::io {
namespace {

using Flags = std::map<std::string, std::string>;

// Sets a variable for the length of a test.
class Variable {
  public:
    Variable(const char* name, const std::string& value) : name_(name), before_(environment(name)) {
        ::setenv(name, value.c_str(), 1);
    }
    ~Variable() {
        if (before_.empty()) {
            ::unsetenv(name_);
        } else {
            ::setenv(name_, before_.c_str(), 1);
        }
    }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

  private:
    const char* name_;
    std::string before_;
};

std::vector<ConfigKey> keys() {
    return {{.name = "broker.endpoint", .default_value = "ipc:///run/x", .help = "where"},
            {.name = "broker.data-folder", .type = ConfigType::path, .help = "what"},
            {.name = "broker.slots",
             .type = ConfigType::integer,
             .default_value = "4",
             .help = "how many",
             .min = 1,
             .max = 1000},
            {.name = "broker.colour",
             .type = ConfigType::boolean,
             .default_value = "true",
             .help = "whether"},
            {.name = "broker.grace",
             .type = ConfigType::duration,
             .default_value = "10s",
             .help = "how long",
             .max = 3'600'000},
            {.name = "name", .help = "of the whole"}};
}

class ConfigFile : public ::testing::Test {
  protected:
    std::string write(const std::string& name, const std::string& text) {
        const std::string path = dir_.path(name);
        EXPECT_TRUE(write_file(path, text, 0600, Sync::none).ok());
        return path;
    }

    // The message of what a file with this text is refused with.
    std::string refusal(const std::string& text) {
        const Result<Config> config = Config::load(keys(), {}, write("refused.toml", text), {});
        if (config.ok()) return "accepted";
        EXPECT_EQ(config.error().code, ErrorCode::config);
        return config.error().message;
    }

    test::TempDir dir_;
};

TEST_F(ConfigFile, WithoutAnyFileHasItsDefaults) {
    const Result<Config> config = Config::load(keys(), {dir_.path("missing.toml")}, "", {});
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_EQ(config->text("broker.endpoint"), "ipc:///run/x");
    EXPECT_EQ(config->integer("broker.slots"), 4);
    EXPECT_TRUE(config->boolean("broker.colour"));
    EXPECT_EQ(config->duration("broker.grace"), Duration(10'000));
    EXPECT_EQ(config->text("broker.data-folder"), "");
    EXPECT_EQ(config->values().at("broker.slots").origin, "default");
    EXPECT_EQ(config->keys().size(), keys().size());
}

TEST_F(ConfigFile, ReadsEveryType) {
    const std::string path = write("a.toml",
                                   "name = 'n'\n[broker]\nendpoint = \"ipc:///e\"\nslots = 7\n"
                                   "data-folder = '/var/x/../y/'\ncolour = false\ngrace = '1h'\n");
    const Result<Config> config = Config::load(keys(), {path}, "", {});
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_EQ(config->text("name"), "n");
    EXPECT_EQ(config->text("broker.endpoint"), "ipc:///e");
    EXPECT_EQ(config->integer("broker.slots"), 7);
    EXPECT_EQ(config->text("broker.data-folder"), "/var/y");
    EXPECT_FALSE(config->boolean("broker.colour"));
    EXPECT_EQ(config->duration("broker.grace"), Duration(3'600'000));
    EXPECT_EQ(config->values().at("broker.grace").value, "1h");
    EXPECT_EQ(config->values().at("broker.grace").origin, path);
}

TEST_F(ConfigFile, ADurationMayBeABareNumberOfSeconds) {
    const std::string path = write("a.toml", "[broker]\ngrace = 90\n");
    EXPECT_EQ(Config::load(keys(), {path}, "", {})->duration("broker.grace"), Duration(90'000));
}

TEST_F(ConfigFile, TheStrongerSourceWins) {
    const std::string system = write("system.toml", "[broker]\nslots = 10\n");
    const std::string user = write("user.toml", "[broker]\nslots = 20\n");
    const std::string named = write("named.toml", "[broker]\nslots = 30\n");
    const auto slots = [&](const std::string& required, const Flags& flags) {
        const Config config = Config::load(keys(), {system, user}, required, flags).value();
        return std::pair(config.integer("broker.slots"), config.values().at("broker.slots").origin);
    };
    EXPECT_EQ(slots("", {}), std::pair(20LL, user));
    EXPECT_EQ(slots(named, {}), std::pair(30LL, named));
    const Variable variable("IW_CFG_BROKER_SLOTS", "40");
    EXPECT_EQ(slots(named, {}), std::pair(40LL, std::string("environment IW_CFG_BROKER_SLOTS")));
    EXPECT_EQ(slots(named, {{"broker.slots", "50"}}), std::pair(50LL, std::string("flag --slots")));
}

TEST_F(ConfigFile, TheEnvironmentNamesKeysInCapitalsAndMayHoldOthers) {
    const Variable folder("IW_CFG_BROKER_DATA_FOLDER", "/srv/data");
    const Variable script("IW_CFG_ICTL", "/opt/ictl");
    const Variable empty("IW_CFG_BROKER_SLOTS", "");
    const Config config = Config::load(keys(), {}, "", {}).value();
    EXPECT_EQ(config.text("broker.data-folder"), "/srv/data");
    EXPECT_EQ(config.integer("broker.slots"), 4);
}

TEST_F(ConfigFile, PathsBecomeAbsoluteAndKnowTheHomeFolder) {
    const Variable home("HOME", "/home/somebody");
    const auto folder = [&](const Flags& flags) {
        return Config::load(keys(), {}, "", flags).value().text("broker.data-folder");
    };
    EXPECT_EQ(folder({{"broker.data-folder", "~/data"}}), "/home/somebody/data");
    EXPECT_EQ(folder({{"broker.data-folder", "~"}}), "/home/somebody");
    EXPECT_EQ(folder({{"broker.data-folder", "data"}}), current_folder() + "/data");
}

TEST_F(ConfigFile, RefusesWithFileKeyAndWhatIsAllowed) {
    struct Row {
        std::string text;
        std::vector<std::string> said;
    };
    const std::vector<Row> rows = {
        {"[broker]\nslotz = 4",
         {"refused.toml line 2", "broker.slotz", "did you mean broker.slots?"}},
        {"[brokr]\nslots = 4", {"brokr.slots", "did you mean broker.slots?"}},
        {"frobnicate = 1", {"unknown key frobnicate", "config show"}},
        {"[broker]\nslots = '4'", {"broker.slots", "whole number, 1 to 1000"}},
        {"[broker]\nslots = 4.5", {"broker.slots", "must be"}},
        {"[broker]\nslots = true", {"broker.slots", "whole number"}},
        {"[broker]\nslots = 0", {"line 2", "is 0; allowed is 1 to 1000"}},
        {"[broker]\nslots = 1001", {"is 1001; allowed is 1 to 1000"}},
        {"[broker]\nslots = [4]", {"broker.slots", "must be"}},
        {"[broker]\ncolour = 'true'", {"broker.colour", "true or false"}},
        {"[broker]\ncolour = 1", {"broker.colour", "true or false"}},
        {"[broker]\nendpoint = 5", {"broker.endpoint", "text in quotes"}},
        {"[broker]\nendpoint = \"a\\u0000b\"", {"broker.endpoint", "zero bytes"}},
        {"[broker]\ngrace = 'soon'", {"broker.grace", "90s"}},
        {"[broker]\ngrace = 0", {"broker.grace", "90s"}},
        {"[broker]\ngrace = true", {"broker.grace", "90s"}},
        {"[broker]\ngrace = '2h'", {"is 2h; allowed is at most 1h"}},
        {"[broker]\ndata-folder = 'x'", {"broker.data-folder", "absolute path"}},
        {"broker = 5", {"unknown key broker"}},
        {"[broker\nslots = 4", {"refused.toml line 1"}},
        {"name = 'a'\nname = 'b'", {"refused.toml line 2"}},
        {"name = '\xff'", {"refused.toml line 1"}},
        {"day = 2025-11-18", {"day", "must be"}}};
    for (const Row& row : rows) {
        const std::string message = refusal(row.text);
        for (const std::string& part : row.said) {
            EXPECT_NE(message.find(part), std::string::npos) << row.text << "\n-> " << message;
        }
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
}

TEST_F(ConfigFile, NamesTheVariableOrTheFlagThatIsWrong) {
    const Result<Config> flag = Config::load(keys(), {}, "", {{"broker.slots", "many"}});
    ASSERT_FALSE(flag.ok());
    EXPECT_NE(flag.error().message.find("flag --slots"), std::string::npos) << flag.error().message;
    const Variable variable("IW_CFG_BROKER_GRACE", "never");
    const Result<Config> config = Config::load(keys(), {}, "", {});
    ASSERT_FALSE(config.ok());
    EXPECT_NE(config.error().message.find("IW_CFG_BROKER_GRACE"), std::string::npos);
}

TEST_F(ConfigFile, OnlyARequiredFileMustExist) {
    const std::string missing = dir_.path("missing.toml");
    const Result<Config> config = Config::load(keys(), {}, missing, {});
    ASSERT_FALSE(config.ok());
    EXPECT_EQ(config.error().code, ErrorCode::config);
    EXPECT_NE(config.error().message.find(missing), std::string::npos);
    EXPECT_FALSE(Config::load(keys(), {dir_.path()}, "", {}).ok());  // a folder is no file
}

TEST(Installation, IsFoundFromTheRunningProgram) {
    const std::string prefix = parent_folder(parent_folder(executable_path()));
    EXPECT_EQ(bin_folder(), prefix + "/bin");
    EXPECT_EQ(libexec_folder(), prefix + "/libexec/native-orchestrator");
    EXPECT_EQ(share_folder(), prefix + "/share/native-orchestrator");
}

TEST(Installation, StateStandsWhereItWasSaid) {
    const Variable home("HOME", "/home/somebody");
    const Variable xdg("XDG_STATE_HOME", "");
    const Variable config_home("XDG_CONFIG_HOME", "relative/is/ignored");
    EXPECT_EQ(config_files("broker"),
              (std::vector<std::string>{"/etc/native-orchestrator/broker.toml",
                                        "/home/somebody/.config/native-orchestrator/broker.toml"}));
    EXPECT_EQ(state_folder(), "/home/somebody/.local/state/native-orchestrator");
    const Variable state("XDG_STATE_HOME", "/srv/state");
    EXPECT_EQ(state_folder(), "/srv/state/native-orchestrator");
    const Variable own("IW_CFG_STATE_DIR", "/srv/own/");
    EXPECT_EQ(state_folder(), "/srv/own");
}

TEST(Installation, EveryRootHasAFleetOfItsOwn) {
    const Variable own("IW_CFG_STATE_DIR", "/srv/own");
    const FleetPaths fleet = fleet_paths("/home/somebody/project");
    const std::string name = sha256_hex("/home/somebody/project").substr(0, 12);
    EXPECT_EQ(fleet.folder, "/srv/own/fleets/" + name);
    EXPECT_EQ(fleet.endpoint, "ipc://" + fleet.folder + "/broker.sock");
    EXPECT_TRUE(check_endpoint(fleet.endpoint).ok());
    EXPECT_NE(fleet_paths("/home/somebody/other").folder, fleet.folder);
}

}  // namespace
}  // namespace iw::io
