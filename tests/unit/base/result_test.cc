#include "common/base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace iw {
namespace {

TEST(Result, HoldsAValueOrAnError) {
    const Result<int> value = 7;
    EXPECT_TRUE(value.ok());
    EXPECT_EQ(*value, 7);

    const Result<int> error = make_error(ErrorCode::not_found, "no such session");
    EXPECT_FALSE(error.ok());
    EXPECT_EQ(error.error().code, ErrorCode::not_found);
    EXPECT_EQ(error.error().message, "no such session");
}

TEST(Result, GivesUpAValueThatOnlyMoves) {
    Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
    const std::unique_ptr<int> taken = std::move(result).value();
    EXPECT_EQ(*taken, 3);
}

TEST(ResultDeathTest, EndsTheProcessWhenTheWrongSideIsAsked) {
    const Result<int> value = 7;
    const Result<int> error = make_error(ErrorCode::io, "x");
    EXPECT_DEATH(static_cast<void>(value.error()), "check failed");
    EXPECT_DEATH(static_cast<void>(error.value()), "check failed");
}

TEST(ErrorCode, NamesReadBackAndUnknownOnesAreInternal) {
    for (int number = 0; number <= static_cast<int>(ErrorCode::internal); ++number) {
        const auto code = static_cast<ErrorCode>(number);
        EXPECT_FALSE(name(code).empty()) << number;
        EXPECT_EQ(parse_error_code(name(code)), code) << name(code);
    }
    EXPECT_EQ(parse_error_code("FROM_A_NEWER_PEER"), ErrorCode::internal);
    EXPECT_EQ(parse_error_code(""), ErrorCode::internal);
}

TEST(ErrorCode, OnlyPassingTroubleIsRetryable) {
    EXPECT_TRUE(is_retryable(ErrorCode::rate_limited));
    EXPECT_TRUE(is_retryable(ErrorCode::shutting_down));
    EXPECT_FALSE(is_retryable(ErrorCode::bad_request));
    EXPECT_FALSE(is_retryable(ErrorCode::idem_mismatch));
    EXPECT_FALSE(is_retryable(ErrorCode::stale_fence));
}

}  // namespace
}  // namespace iw
