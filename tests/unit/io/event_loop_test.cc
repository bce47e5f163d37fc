#include "common/io/event_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "common/io/files.h"
#include "common/io/signals.h"
#include "common/io/system_clock.h"

namespace iw::io {
namespace {

constexpr Duration kCap{30'000};

Timestamp cap() {
    return steady_now() + kCap;
}

TEST(EventLoop, RunsTheHandlerOfWhatIsReadable) {
    EventLoop loop;
    Wakeup quiet;
    Wakeup raised;
    int quiet_calls = 0;
    int raised_calls = 0;
    loop.add_fd(quiet.fd(), [&] { ++quiet_calls; });
    loop.add_fd(raised.fd(), [&] { ++raised_calls; });
    raised.raise();
    ASSERT_TRUE(loop.wait(cap()).ok());
    // Not drained, so reported again.
    ASSERT_TRUE(loop.wait(cap()).ok());
    EXPECT_EQ(quiet_calls, 0);
    EXPECT_EQ(raised_calls, 2);
    raised.drain();
    ASSERT_TRUE(loop.wait(steady_now()).ok());
    EXPECT_EQ(raised_calls, 2);
}

TEST(EventLoop, EndsAtItsDeadlineAlsoWithNothingToWatch) {
    EventLoop loop;
    const Timestamp deadline = steady_now() + Duration(20);
    ASSERT_TRUE(loop.wait(deadline).ok());
    EXPECT_GE(steady_now() + Duration(1), deadline);
    ASSERT_TRUE(loop.wait(steady_now() - Duration(5)).ok());
}

TEST(EventLoop, LetsHandlersAddAndRemoveEvenThemselves) {
    EventLoop loop;
    Wakeup first;
    Wakeup second;
    Wakeup third;
    int first_calls = 0;
    int second_calls = 0;
    int third_calls = 0;
    loop.add_fd(first.fd(), [&] {
        ++first_calls;
        loop.remove_fd(first.fd());
        loop.remove_fd(second.fd());
        loop.add_fd(third.fd(), [&] { ++third_calls; });
    });
    loop.add_fd(second.fd(), [&] { ++second_calls; });
    first.raise();
    second.raise();
    third.raise();
    ASSERT_TRUE(loop.wait(cap()).ok());
    EXPECT_EQ(first_calls, 1);
    EXPECT_EQ(second_calls, 0);  // removed before its turn came
    EXPECT_EQ(third_calls, 0);
    ASSERT_TRUE(loop.wait(cap()).ok());
    EXPECT_EQ(first_calls, 1);
    EXPECT_EQ(third_calls, 1);
}

TEST(EventLoop, ReportsAHangUp) {
    EventLoop loop;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(ends[0]);
    UniqueFd write_end(ends[1]);
    int calls = 0;
    loop.add_fd(read_end.get(), [&] { ++calls; });
    write_end.reset();
    ASSERT_TRUE(loop.wait(cap()).ok());
    EXPECT_EQ(calls, 1);
}

TEST(Wakeup, EndsTheWaitOfAnotherThread) {
    EventLoop loop;
    Wakeup wakeup;
    bool woken = false;
    loop.add_fd(wakeup.fd(), [&] {
        wakeup.drain();
        woken = true;
    });
    std::thread other([&] { wakeup.raise(); });
    const Timestamp deadline = cap();
    while (!woken && steady_now() < deadline)
        ASSERT_TRUE(loop.wait(deadline).ok());
    other.join();
    EXPECT_TRUE(woken);
}

TEST(SignalFd, TurnsSignalsIntoReads) {
    Result<SignalFd> signals = SignalFd::open({SIGUSR1, SIGUSR2});
    ASSERT_TRUE(signals.ok());
    EXPECT_FALSE(signals->read().has_value());
    ASSERT_EQ(::kill(::getpid(), SIGUSR2), 0);
    EventLoop loop;
    std::optional<int> seen;
    loop.add_fd(signals->fd(), [&] { seen = signals->read(); });
    ASSERT_TRUE(loop.wait(cap()).ok());
    EXPECT_EQ(seen, SIGUSR2);
    EXPECT_FALSE(signals->read().has_value());
}

TEST(SystemClock, GoesForwardOnAllThreeClocks) {
    const Now before = now();
    const Timestamp booted = boottime_now();
    EXPECT_GE(steady_now(), before.steady);
    EXPECT_GE(boottime_now(), booted);
    EXPECT_GT(to_ms(before.wall), 1'600'000'000'000);
}

}  // namespace
}  // namespace iw::io
