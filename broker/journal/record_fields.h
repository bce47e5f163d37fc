#pragma once

// The fields of every record with their numbers on disk, described once for writing and for
// reading. Numbers rise, are explicit and are never used again; a new field takes the next free
// one. An archive is called as archive(number, member).

#include <concepts>
#include <type_traits>

#include "broker/core/record.h"

namespace iw::broker {

template <typename T, typename Body>
concept Is = std::same_as<std::remove_const_t<T>, Body>;

// Embedded in SessionCreated, whose own fields end below 16.
void describe_submission(auto& archive, Is<Submission> auto& s) {
    archive(16, s.key);
    archive(17, s.agent);
    archive(18, s.prompt);
    archive(19, s.project);
    archive(20, s.origin.host);
    archive(21, s.origin.root);
    archive(22, s.agent_in_project);
    archive(23, s.queue_anyway);
    archive(24, s.priority);
    archive(25, s.delay);
    archive(26, s.expires);
    archive(27, s.timeout);
    archive(28, s.disk_limit);
    archive(29, s.on_lost);
    archive(30, s.parent);
    archive(31, s.retry_of);
    archive(32, s.host);
    archive(33, s.require);
    archive(34, s.tags);
    archive(35, s.metadata);
    archive(36, s.retry);
    archive(37, s.after);
    archive(38, s.keep_children);
    archive(39, s.result_schema);
    archive(40, s.estimate);
}

void describe(auto& archive, Is<SessionCreated> auto& r) {
    archive(1, r.id);
    archive(2, r.principal);
    archive(3, r.body_hash);
    archive(4, r.not_before);
    archive(5, r.expires_at);
    archive(6, r.parent_fence);
    archive(7, r.ancestors);
    describe_submission(archive, r.submission);
}

void describe(auto& archive, Is<AttemptAssigned> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.worker);
    archive(5, r.host);
}

void describe(auto& archive, Is<AttemptStarted> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.started_at);
    archive(5, r.workspace);
}

void describe(auto& archive, Is<AttemptReturned> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.cause);
    archive(5, r.platform_fault);
    archive(6, r.reason);
    archive(7, r.evidence);
    archive(8, r.retry_at);
    archive(9, r.exit_code);
}

void describe(auto& archive, Is<SessionEnded> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.status);
    archive(5, r.detail);
    archive(6, r.reason);
    archive(7, r.kill_reason);
    archive(8, r.exit_code);
    archive(9, r.started_at);
    archive(10, r.completed_at);
    archive(11, r.workspace);
    archive(12, r.result_status);
    archive(13, r.result_size);
    archive(14, r.result_sha256);
    archive(15, r.result_inline);
    archive(16, r.result);
    archive(17, r.evidence);
    archive(18, r.deliverables);
}

void describe(auto& archive, Is<SessionClosed> auto& r) {
    archive(1, r.id);
    archive(2, r.by);
}

void describe(auto& archive, Is<KillWished> auto& r) {
    archive(1, r.id);
    archive(2, r.principal);
    archive(3, r.cause);
    archive(4, r.reason);
}

void describe(auto& archive, Is<ReportSuperseded> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.number);
    archive(5, r.what);
    archive(6, r.worker);
    archive(7, r.cause);
    archive(8, r.exit_code);
    archive(9, r.result);
}

void describe(auto& archive, Is<WorkerRegistered> auto& r) {
    archive(1, r.name);
    archive(2, r.host);
    archive(3, r.root);
    archive(4, r.project);
    archive(5, r.state_id);
    archive(6, r.boot_id);
    archive(7, r.start_count);
    archive(8, r.slots);
    archive(9, r.agents);
    archive(10, r.labels);
    archive(11, r.software);
}

void describe(auto& archive, Is<WorkerNoted> auto& r) {
    archive(1, r.name);
    archive(2, r.state);
    archive(3, r.evidence);
}

void describe(auto& archive, Is<TimeoutChanged> auto& r) {
    archive(1, r.id);
    archive(2, r.timeout);
    archive(3, r.principal);
}

void describe(auto& archive, Is<HoldChanged> auto& r) {
    archive(1, r.scope);
    archive(2, r.name);
    archive(3, r.on);
    archive(4, r.principal);
    archive(5, r.reason);
    archive(6, r.until);
}

void describe(auto& archive, Is<EpochBegun> auto& r) {
    archive(1, r.epoch);
    archive(2, r.generation);
    archive(3, r.hold);
    archive(4, r.reason);
    archive(5, r.principal);
}

void describe(auto& archive, Is<RestoreReleased> auto& r) {
    archive(1, r.principal);
    archive(2, r.reason);
}

void describe(auto& archive, Is<AttemptAdopted> auto& r) {
    archive(1, r.id);
    archive(2, r.fence.generation);
    archive(3, r.fence.attempt);
    archive(4, r.worker);
    archive(5, r.host);
}

void describe(auto& archive, Is<SessionEdited> auto& r) {
    archive(1, r.id);
    archive(2, r.principal);
    archive(3, r.parent);
    archive(4, r.ancestors);
    archive(5, r.below);
    archive(6, r.tags);
    archive(7, r.metadata);
}

}  // namespace iw::broker
