#include "broker/database/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <unistd.h>

#include <utility>

#include "common/base/text.h"

namespace iw::broker::sqlite {
namespace {

ErrorCode error_code(int result) {
    switch (result & 0xff) {
        case SQLITE_FULL:
            return ErrorCode::storage_low;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return ErrorCode::conflict;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return ErrorCode::config;
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_READONLY:
        case SQLITE_AUTH:
        case SQLITE_NOMEM:
            return ErrorCode::io;
        default:
            return ErrorCode::internal;
    }
}

Error make_sqlite_error(sqlite3* handle, int result, const std::string& path) {
    const ErrorCode code = error_code(result);
    std::string message = "database " + path + ": ";
    message += handle != nullptr ? sqlite3_errmsg(handle) : sqlite3_errstr(result);
    message += " (" + std::to_string(result) + ")";
    if (code == ErrorCode::config)
        message += "; it is damaged: restore a backup with `ictl restore FOLDER`";
    if (code == ErrorCode::conflict) message += "; another process has it open";
    if (code == ErrorCode::storage_low) message += "; make room on its disk";
    return make_error(code, std::move(message));
}

// A path as part of a URI.
std::string percent_encoded(std::string_view path) {
    std::string text;
    for (const char c : path) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || c == '/' || c == '-' || c == '_' || c == '.';
        text += plain ? std::string(1, c) : "%" + to_hex(std::string_view(&c, 1));
    }
    return text;
}

// SQLite would make the file readable for everybody whom the umask lets. Only when it is not there:
// closing a descriptor of a file that this process has open in SQLite would drop SQLite's locks.
void make_private(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
}

}  // namespace

// ---- Statement
// ------------------------------------------------------------------------------------------

Statement::Statement(Statement&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), path_(other.path_) {}

Statement& Statement::operator=(Statement&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(path_, other.path_);
    return *this;
}

Statement::~Statement() {
    sqlite3_finalize(handle_);
}

// A failed bind (out of memory, over SQLite's size limit) leaves NULL, which a NOT NULL column then
// refuses.
void Statement::bind(int index, std::int64_t value) {
    sqlite3_bind_int64(handle_, index, value);
}
void Statement::bind(int index, std::string_view text) {
    // Without an address SQLite would take an empty text for NULL.
    const char* data = text.data() == nullptr ? "" : text.data();
    sqlite3_bind_text64(handle_, index, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
}
void Statement::bind(int index, Blob blob) {
    const char* data = blob.bytes.data() == nullptr ? "" : blob.bytes.data();
    sqlite3_bind_blob64(handle_, index, data, blob.bytes.size(), SQLITE_STATIC);
}
void Statement::bind(int index, std::nullopt_t) {
    sqlite3_bind_null(handle_, index);
}

Result<bool> Statement::step() {
    const int result = sqlite3_step(handle_);
    if (result == SQLITE_ROW) return true;
    if (result == SQLITE_DONE) return false;
    sqlite3* connection = sqlite3_db_handle(handle_);
    return make_sqlite_error(connection, sqlite3_extended_errcode(connection), *path_);
}

Status Statement::finish() {
    const ResetLater reset_later(*this);
    Result<bool> row = step();
    while (row.ok() && *row)
        row = step();
    if (!row) return row.error();
    return Done{};
}

void Statement::reset() {
    sqlite3_reset(handle_);
    sqlite3_clear_bindings(handle_);
}

bool Statement::is_null(int column) const {
    return sqlite3_column_type(handle_, column) == SQLITE_NULL;
}
std::int64_t Statement::number(int column) const {
    return sqlite3_column_int64(handle_, column);
}
std::string_view Statement::text(int column) const {
    const void* data = sqlite3_column_blob(handle_, column);
    if (data == nullptr) return {};
    return {static_cast<const char*>(data),
            static_cast<std::size_t>(sqlite3_column_bytes(handle_, column))};
}

// ---- Connection
// -----------------------------------------------------------------------------------------

Result<std::unique_ptr<Connection>> Connection::open(const std::string& path) {
    make_private(path);
    sqlite3* handle = nullptr;
    // One thread at a time uses it, so SQLite need not lock.
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    const int result = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
    std::unique_ptr<Connection> connection(new Connection(handle, path));
    if (result != SQLITE_OK) return make_sqlite_error(handle, result, path);
    sqlite3_extended_result_codes(handle, 1);
    return connection;
}

Result<std::unique_ptr<Connection>> Connection::open_to_read(const std::string& path) {
    sqlite3* handle = nullptr;
    const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI;
    const std::string uri = "file:" + percent_encoded(path) + "?immutable=1";
    const int result = sqlite3_open_v2(uri.c_str(), &handle, flags, nullptr);
    std::unique_ptr<Connection> connection(new Connection(handle, path));
    if (result != SQLITE_OK) return make_sqlite_error(handle, result, path);
    sqlite3_extended_result_codes(handle, 1);
    return connection;
}

Connection::~Connection() {
    sqlite3_close_v2(handle_);
}

Status Connection::execute(const std::string& sql) {
    const int result = sqlite3_exec(handle_, sql.c_str(), nullptr, nullptr, nullptr);
    if (result == SQLITE_OK) return Done{};
    return make_sqlite_error(handle_, result, path_);
}

Result<Statement> Connection::prepare(const std::string& sql) {
    sqlite3_stmt* statement = nullptr;
    const int result = sqlite3_prepare_v3(handle_, sql.c_str(), static_cast<int>(sql.size()),
                                          SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (result != SQLITE_OK) return make_sqlite_error(handle_, result, path_);
    return Statement(statement, &path_);
}

Result<std::int64_t> Connection::number(const std::string& sql) {
    Result<Statement> statement = prepare(sql);
    if (!statement) return statement.error();
    const Result<bool> row = statement->step();
    if (!row) return row.error();
    return *row ? statement->number(0) : 0;
}

Status Connection::checkpoint() {
    const int result =
        sqlite3_wal_checkpoint_v2(handle_, nullptr, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
    if (result != SQLITE_OK) return make_sqlite_error(handle_, result, path_);
    log_pages_ = 0;
    return Done{};
}

void Connection::watch_log() {
    const auto note = [](void* self, sqlite3*, const char*, int pages) {
        static_cast<Connection*>(self)->log_pages_ = pages;
        return SQLITE_OK;
    };
    sqlite3_wal_hook(handle_, note, this);
}

void Connection::roll_back() {
    if (sqlite3_get_autocommit(handle_) != 0) return;
    // Some errors have undone it already; then this fails, and nothing is lost.
    sqlite3_exec(handle_, "ROLLBACK", nullptr, nullptr, nullptr);
}

// ---- Copy
// -----------------------------------------------------------------------------------------------

Result<std::unique_ptr<Copy>> Copy::begin(Connection& source, const std::string& path) {
    Result<std::unique_ptr<Connection>> target = Connection::open(path);
    if (!target) return target.error();
    // Worthless until it is whole and has been synced: nothing has to be undone in it.
    const Status set = (*target)->execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;");
    if (!set) return set.error();
    sqlite3_backup* handle =
        sqlite3_backup_init((*target)->handle_, "main", source.handle_, "main");
    if (handle == nullptr) {
        const int result = sqlite3_extended_errcode((*target)->handle_);
        return make_sqlite_error((*target)->handle_, result, path);
    }
    return std::unique_ptr<Copy>(new Copy(std::move(*target), handle));
}

Copy::~Copy() {
    sqlite3_backup_finish(handle_);
}

Result<bool> Copy::step(int pages) {
    const int result = sqlite3_backup_step(handle_, pages);
    if (result == SQLITE_OK) return true;
    if (result == SQLITE_DONE) return false;
    return make_sqlite_error(nullptr, result, target_->path());
}

std::string random_hex(int bytes) {
    std::string random(static_cast<std::size_t>(bytes), '\0');
    sqlite3_randomness(bytes, random.data());
    return to_hex(random);
}

}  // namespace iw::broker::sqlite
