#pragma once

// What the tests of the stores share: journals of small segments, copies of folders, dumps of
// databases.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "broker/database/database.h"
#include "broker/database/sqlite.h"
#include "broker/journal/journal.h"
#include "broker/journal/record_codec.h"
#include "common/io/files.h"
#include "tests/store/histories.h"
#include "tests/support/temp_dir.h"

namespace iw::test {

inline constexpr std::size_t kSmallSegment = 64u << 10;

inline broker::JournalOptions small_journal(const std::string& folder) {
    return {.folder = folder, .segment_bytes = kSmallSegment, .keep_bytes = 0};
}

inline std::unique_ptr<broker::Journal> must_open(const broker::JournalOptions& options) {
    auto journal = broker::open_journal(options);
    EXPECT_TRUE(journal.ok()) << (journal.ok() ? "" : journal.error().message);
    return journal.ok() ? std::move(*journal) : nullptr;
}

// A record as bytes with its seq: equal text, equal record.
inline std::string text_of(const broker::Record& record) {
    std::string bytes = std::to_string(record.seq) + ":";
    broker::encode_record(record, bytes);
    return bytes;
}

inline std::vector<std::string> texts_of(const std::vector<broker::Record>& records) {
    std::vector<std::string> texts;
    for (const broker::Record& record : records)
        texts.push_back(text_of(record));
    return texts;
}

inline std::vector<broker::Record> read_all(broker::Journal& journal, Seq after) {
    std::vector<broker::Record> records;
    const Status read = journal.read(after, [&](const broker::Record& record) -> Status {
        records.push_back(record);
        return Done{};
    });
    EXPECT_TRUE(read.ok()) << (read.ok() ? "" : read.error().message);
    return records;
}

// Paths of the journal's segments, oldest first.
inline std::vector<std::string> segments_in(const std::string& folder) {
    std::vector<std::string> paths;
    for (const std::string& name : io::list_folder(folder)) {
        if (name.ends_with(".segment")) paths.push_back(folder + "/" + name);
    }
    return paths;
}

inline std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

inline void spill(const std::string& path, const std::string& bytes) {
    // A file that is cut and written again, ext4 flushes to the disk when it is closed; a new one
    // it does not.
    std::filesystem::remove(path);
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline void flip(const std::string& path, std::size_t offset) {
    std::string bytes = slurp(path);
    ASSERT_LT(offset, bytes.size());
    bytes[offset] = static_cast<char>(bytes[offset] ^ 0x10);
    spill(path, bytes);
}

inline void copy_folder(const std::string& from, const std::string& to) {
    std::filesystem::remove_all(to);
    std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
}

inline std::unique_ptr<broker::Database> must_open(const broker::DatabaseOptions& options) {
    auto database = broker::Database::open(options);
    EXPECT_TRUE(database.ok()) << (database.ok() ? "" : database.error().message);
    return database.ok() ? std::move(*database) : nullptr;
}

inline void must_apply(broker::Database& database, std::span<const broker::Record> records) {
    const Status applied = database.apply(records);
    ASSERT_TRUE(applied.ok()) << applied.error().message;
}

// The names of a database's columns by table, in their order.
using Columns = std::map<std::string, std::vector<std::string>>;
inline Columns columns_of(const std::string& file) {
    auto connection = broker::sqlite::Connection::open(file);
    EXPECT_TRUE(connection.ok());
    Columns columns;
    auto rows = (*connection)
                    ->prepare(
                        "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c "
                        "WHERE t.type = 'table' ORDER BY t.name, c.cid");
    EXPECT_TRUE(rows.ok());
    while (*rows->step())
        columns[std::string(rows->text(0))].emplace_back(rows->text(1));
    return columns;
}

// Every row of these columns as text, but for the random epoch. The file must not be open
// elsewhere.
inline std::string dump_database(const std::string& file, const Columns& columns) {
    auto connection = broker::sqlite::Connection::open(file);
    EXPECT_TRUE(connection.ok());
    std::string dump;
    for (const auto& [table, names] : columns) {
        std::string sql;
        for (const std::string& name : names) {
            const bool random = table == "meta" && name == "epoch";
            sql += (sql.empty() ? "SELECT " : ", ") + (random ? "length(epoch)" : name);
        }
        auto rows = (*connection)
                        ->prepare(sql + " FROM " + table + " ORDER BY 1, 2" +
                                  (names.size() > 2 ? ", 3" : ""));
        EXPECT_TRUE(rows.ok()) << table;
        while (*rows->step()) {
            dump += table;
            for (int column = 0; column < static_cast<int>(names.size()); ++column) {
                dump += "|";
                dump += rows->is_null(column) ? "NULL" : std::string(rows->text(column));
            }
            dump += "\n";
        }
    }
    return dump;
}
inline std::string dump_database(const std::string& file) {
    return dump_database(file, columns_of(file));
}

}  // namespace iw::test
