#pragma once

// The tables and how a file of them is opened: what each is for stands in broker/STORE.md.

#include <cstdint>

#include "broker/database/sqlite.h"
#include "common/base/result.h"

namespace iw::broker {

// "IWdb": says that a SQLite file is one of ours.
inline constexpr std::int64_t kApplicationId = 0x49576462;
inline constexpr std::int64_t kSchemaVersion = 3;

// Takes the file for this process alone, refuses foreign and newer ones before anything is written,
// makes the tables in a new one and brings those of an older version up to this one: each in one
// transaction. The file's folder is synced when the file is new.
Status open_schema(sqlite::Connection& connection);
// Whether the file holds tables of this version or an older one; config: it does not. Only reads.
Status check_schema(sqlite::Connection& connection);

}  // namespace iw::broker
