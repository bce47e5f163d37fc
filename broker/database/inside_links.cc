#include "broker/database/inside_links.h"

#include <utility>

namespace iw::broker {

Result<InsideLinks> InsideLinks::prepare(sqlite::Connection& connection) {
    Result<sqlite::Statement> find =
        connection.prepare("SELECT parent_generation IS NOT NULL FROM sessions WHERE id = ?");
    if (!find) return find.error();
    return InsideLinks(std::move(*find));
}

Result<std::optional<std::uint16_t>> InsideLinks::of(const LiveSession& session) {
    using Links = std::optional<std::uint16_t>;
    if (session.ancestors.empty()) return Links();
    const std::size_t last = session.ancestors.size() - 1;
    std::uint32_t links = session.parent_fence ? 1u << last : 0u;
    for (std::size_t i = 0; i < last; ++i) {
        const Result<bool> inside = is_from_inside(session.ancestors[i + 1]);
        if (!inside) return inside.error();
        if (*inside) links |= 1u << i;
    }
    return Links(static_cast<std::uint16_t>(links));
}

Result<bool> InsideLinks::is_from_inside(const SessionId& id) {
    const auto known = known_.find(id);
    if (known != known_.end()) return known->second;
    const sqlite::ResetLater reset_later(find_);
    find_.bind_all(id);
    const Result<bool> row = find_.step();
    if (!row) return row.error();
    const bool inside = !*row || find_.number(0) != 0;
    known_.emplace(id, inside);
    return inside;
}

}  // namespace iw::broker
