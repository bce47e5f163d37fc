#pragma once

// A visitor of field lists (common/codec/pack.h) that fills a struct with random values which keep
// to the rules, so that every field of every message takes part in the round trips.

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "common/base/random.h"
#include "common/codec/fields.h"

namespace iw {

class Fill {
  public:
    explicit Fill(Random& random) : random_(random) {}

    template <typename T>
    void required(std::string_view, T& value, const codec::Rule& rule = codec::kAnything) {
        set(value, rule);
    }
    template <typename T>
    void optional(std::string_view, T& value, const codec::Rule& rule = codec::kAnything) {
        if (random_.below(3) > 0) set(value, rule);
    }
    template <typename T>
    void defaulted(std::string_view, T& value, const codec::Rule& rule = codec::kAnything) {
        set(value, rule);
    }
    void required_bytes(std::string_view, std::string& value,
                        const codec::Rule& = codec::kAnything) {
        value = bytes(1 + random_.below(40));
    }
    void optional_bytes(std::string_view, std::string& value,
                        const codec::Rule& = codec::kAnything) {
        value = bytes(random_.below(40));
    }
    template <typename E>
    void word(std::string_view, E& value, E) {
        set(value, codec::kAnything);
    }
    template <typename... Ts>
    void one_of(std::string_view, std::variant<Ts...>& value) {
        const std::uint64_t chosen = random_.below(sizeof...(Ts));
        std::uint64_t index = 0;
        ((index++ == chosen ? static_cast<void>(value.template emplace<Ts>()) : void()), ...);
        std::visit([&](auto& alternative) { fill(alternative); }, value);
    }
    void check(bool, std::string_view, std::string_view) {}

    template <typename T>
    void fill(T& value) {
        fields(*this, value);
        mend(value);
    }

  private:
    // Rules between fields.
    void mend(auto&) {}
    void mend(HelloRequest& hello) {
        hello.role = hello.worker ? "worker" : "client";
        if (hello.protocol_min > hello.protocol_max)
            std::swap(hello.protocol_min, hello.protocol_max);
    }
    void mend(RetryPolicy& policy) {
        constexpr Detail kCauses[] = {Detail::exited,         Detail::signal,
                                      Detail::disk_limit,     Detail::result_missing,
                                      Detail::result_invalid, Detail::timeout};
        for (Detail& cause : policy.causes)
            cause = kCauses[random_.below(std::size(kCauses))];
        if (policy.backoff > policy.backoff_max) std::swap(policy.backoff, policy.backoff_max);
    }
    void mend(ExtendRequest& request) {
        request.timeout.reset();
        if (request.add) return;
        request.timeout = Duration(1 + static_cast<std::int64_t>(random_.below(9000)));
    }
    void mend(EditRequest& request) {
        if (!request.parent && !request.tags) request.metadata = "{}";
    }
    void mend(HoldRequest& request) {
        request.name = request.scope == HoldScope::fleet ? "" : "shop";
    }
    void mend(ConfirmDeadRequest& request) {
        request.worker.clear();
        if (!request.id.empty()) request.host.clear();
        if (request.id.empty() && request.host.empty()) request.worker = "alpha";
    }
    void mend(Report& report) { report.number = codec::report_number(report.body); }
    void mend(EndedReport& report) {
        constexpr Detail kCauses[] = {Detail::killed, Detail::parent_killed, Detail::timeout};
        report.stop_cause = kCauses[random_.below(3)];
        if (report.result_inline) report.result_size = report.result.size();
    }

    template <typename T>
    void set(T& value, const codec::Rule& rule) {
        if constexpr (std::same_as<T, bool>) {
            value = random_.below(2) == 1;
        } else if constexpr (std::integral<T>) {
            value = static_cast<T>(number<T>(rule));
        } else if constexpr (std::is_enum_v<T>) {
            do {
                value = static_cast<T>(random_.below(100));
            } while (name(value) == "?" ||
                     codec::parse_word(name(value), std::type_identity<T>{}) != value);
        } else if constexpr (std::same_as<T, Duration>) {
            value = Duration(number<std::int64_t>(rule));
        } else if constexpr (std::same_as<T, WallTime>) {
            value = wall_from_ms(static_cast<std::int64_t>(random_.below(253'402'300'800'000)));
        } else if constexpr (codec::kIsText<T>) {
            value = T(text(rule));
        } else if constexpr (codec::kIsMap<T>) {
            for (std::uint64_t i = random_.below(4); i > 0; --i)
                set(value[text(rule)], rule);
        } else if constexpr (codec::kIsOptional<T>) {
            set(value.emplace(), rule);
        } else if constexpr (codec::kIsVector<T>) {
            const std::size_t count = std::max<std::size_t>(rule.count_min, random_.below(4));
            for (std::size_t i = 0; i < count; ++i)
                set(value.emplace_back(), rule);
        } else {
            fill(value);
        }
    }

    template <typename T>
    std::int64_t number(const codec::Rule& rule) {
        const std::int64_t low =
            std::max<std::int64_t>(rule.min, std::is_signed_v<T> ? -(1 << 30) : 0);
        const std::int64_t high =
            std::min<std::int64_t>(rule.max, sizeof(T) > 4 ? 1LL << 62 : 1 << 30);
        // The edges are where mistakes are.
        const std::uint64_t edge = random_.below(8);
        if (edge < 2) return edge == 0 ? low : high;
        const std::uint64_t span = static_cast<std::uint64_t>(high - low) + 1;
        return low + static_cast<std::int64_t>(random_.below(span) >> random_.below(40) % 64);
    }

    std::string text(const codec::Rule& rule) {
        const std::string tail = std::to_string(random_.below(100'000));
        if (rule.form == is_agent_name) return "agent_" + tail;
        if (rule.form == is_plain_name) return "Host-" + tail + ".example:7@x";
        if (rule.form == is_session_id) return "20251118-153042-agent-" + tail;
        if (rule.form == codec::is_absolute_path) return "/srv/caf\xc3\xa9/" + tail;
        if (rule.form == codec::is_sha256_hex) return std::string(64 - tail.size(), 'f') + tail;
        if (rule.form == codec::is_json_object) return R"({"n": )" + tail + "}";
        if (rule.form == codec::is_session_id_or_empty)
            return random_.below(2) == 0 ? "" : "20251118-153042-agent-" + tail;
        if (rule.form == codec::is_json_object_or_empty)
            return random_.below(2) == 0 ? "" : R"({"n": )" + tail + "}";
        static const std::vector<std::string> kPieces = {
            "a", "Zz", " ", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x9a\x80"};
        std::string result = tail;
        const std::uint64_t pieces = random_.below(20);
        for (std::uint64_t i = 0; i < pieces; ++i)
            result += kPieces[random_.below(kPieces.size())];
        // Control characters are data where nothing forbids them.
        if (rule.form == nullptr) result += std::string("\0\n\x1b", random_.below(4));
        return result;
    }

    std::string bytes(std::uint64_t size) {
        std::string result(size, '\0');
        for (char& byte : result)
            byte = static_cast<char>(random_.next());
        return result;
    }

    Random& random_;
};

}  // namespace iw
