#pragma once

// SQLite behind three small types; the only user of its interface. Errors come back as codes of
// ours: storage_low (disk full: the transaction is undone, may be tried again), conflict (somebody
// else holds the file), config (damaged, or not a database), io, internal.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"

struct sqlite3;
struct sqlite3_backup;
struct sqlite3_stmt;

namespace iw::broker::sqlite {

// Bytes that are not text.
struct Blob {
    std::string_view bytes;
};

class Statement {
  public:
    Statement() = default;
    Statement(Statement&& other) noexcept;
    Statement& operator=(Statement&& other) noexcept;
    ~Statement();

    // Binds the parameters in order; they need to live until the last step.
    template <typename... Values>
    void bind_all(const Values&... values) {
        int index = 0;
        (bind(++index, values), ...);
    }
    // Runs a statement that returns no rows.
    template <typename... Values>
    Status run(const Values&... values) {
        bind_all(values...);
        return finish();
    }

    void bind(int index, std::int64_t value);
    void bind(int index, std::string_view text);
    void bind(int index, Blob blob);
    void bind(int index, std::nullopt_t);
    void bind(int index, WallTime time) { bind(index, to_ms(time)); }
    void bind(int index, Duration duration) { bind(index, std::int64_t{duration.count()}); }
    void bind(int index, const std::string& text) { bind(index, std::string_view(text)); }
    void bind(int index, const char* text) { bind(index, std::string_view(text)); }
    template <typename Tag>
    void bind(int index, const StrongString<Tag>& id) {
        bind(index, std::string_view(id.str()));
    }
    template <typename T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
    void bind(int index, T value) { bind(index, static_cast<std::int64_t>(value)); }
    template <typename T>
    void bind(int index, const std::optional<T>& value) {
        if (value) return bind(index, *value);
        bind(index, std::nullopt);
    }

    // True: a row is there to be read; false: that was all.
    Result<bool> step();
    // Ends a run early or makes ready for the next; parameters are forgotten.
    void reset();

    bool is_null(int column) const;
    std::int64_t number(int column) const;
    // Text or bytes; valid until the next step.
    std::string_view text(int column) const;

  private:
    friend class Connection;
    Statement(sqlite3_stmt* handle, const std::string* path) : handle_(handle), path_(path) {}
    Status finish();

    sqlite3_stmt* handle_ = nullptr;
    const std::string* path_ = nullptr;  // the connection's
};

// Resets a statement at the end of a scope, however it is left.
class ResetLater {
  public:
    explicit ResetLater(Statement& statement) : statement_(statement) {}
    ~ResetLater() { statement_.reset(); }
    ResetLater(const ResetLater&) = delete;
    ResetLater& operator=(const ResetLater&) = delete;

  private:
    Statement& statement_;
};

// Takes the columns of a row one after the other.
class RowReader {
  public:
    RowReader(const Statement& statement, int first) : statement_(statement), column_(first) {}

    void take(std::string& text) { text.assign(statement_.text(column_++)); }
    template <typename Tag>
    void take(StrongString<Tag>& id) {
        id = StrongString<Tag>(std::string(statement_.text(column_++)));
    }
    void take(WallTime& time) { time = wall_from_ms(statement_.number(column_++)); }
    void take(Duration& duration) { duration = Duration(statement_.number(column_++)); }
    template <typename T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
    void take(T& value) { value = static_cast<T>(statement_.number(column_++)); }
    template <typename T>
    void take(std::optional<T>& value) {
        if (!statement_.is_null(column_)) return take(value.emplace());
        value.reset();
        ++column_;
    }
    template <typename... Values>
    void take_all(Values&... values) {
        (take(values), ...);
    }

  private:
    const Statement& statement_;
    int column_;
};

class Connection {
  public:
    // Opens or makes the file (mode 0600). Nothing in it has been looked at yet.
    static Result<std::unique_ptr<Connection>> open(const std::string& path);
    // A file that is there and that nobody writes, to be looked at; nothing is written, nothing
    // made beside it. A log beside it is not looked at.
    static Result<std::unique_ptr<Connection>> open_to_read(const std::string& path);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    Status execute(const std::string& sql);
    Result<Statement> prepare(const std::string& sql);
    // The one number that a query answers with.
    Result<std::int64_t> number(const std::string& sql);
    // Writes all that is committed into the database file, syncs it and empties the log beside it.
    Status checkpoint();
    // From now on log_pages() follows the log. SQLite's own checkpoints are off with it: their
    // errors, a failed sync among them, would be lost, and the next one would report a success that
    // is none.
    void watch_log();
    // Pages in the log after the last commit.
    int log_pages() const { return log_pages_; }
    // Undoes an open transaction, if there is one.
    void roll_back();

    const std::string& path() const { return path_; }

  private:
    friend class Copy;
    Connection(sqlite3* handle, const std::string& path) : handle_(handle), path_(path) {}

    sqlite3* handle_;
    std::string path_;
    int log_pages_ = 0;
};

// A copy of a database in the making, page by page. What its own connection changes between two
// steps goes into the copy as well, so it never has to begin again. Ends before its connection.
class Copy {
  public:
    // `path` does not exist yet. The copy is not synced.
    static Result<std::unique_ptr<Copy>> begin(Connection& source, const std::string& path);
    ~Copy();
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;

    // True: there is more. False: the copy is whole, and its file closed once this is destroyed.
    Result<bool> step(int pages);
    const std::string& path() const { return target_->path(); }

  private:
    Copy(std::unique_ptr<Connection> target, sqlite3_backup* handle)
        : target_(std::move(target)), handle_(handle) {}

    std::unique_ptr<Connection> target_;
    sqlite3_backup* handle_;
};

// `bytes` random bytes as hex.
std::string random_hex(int bytes);

}  // namespace iw::broker::sqlite
