#include "ctl/dry_run.h"

#include <algorithm>

#include "common/base/text.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_json.h"
#include "ctl/render.h"
#include "ctl/submission.h"

namespace iw::ctl {
namespace {

bool offers(const WorkerView& worker, const Submission& submission) {
    return (submission.project.empty() || worker.project == submission.project) &&
           std::ranges::find(worker.agents, submission.agent.str()) != worker.agents.end();
}

std::string unknown_agent(const std::vector<WorkerView>& workers, const Submission& submission) {
    std::vector<std::string> known;
    for (const WorkerView& worker : workers) {
        if (!submission.project.empty() && worker.project != submission.project) continue;
        known.insert(known.end(), worker.agents.begin(), worker.agents.end());
    }
    const std::string near = nearest(submission.agent.str(), known);
    return "no worker offers agent \"" + submission.agent.str() + "\"" +
           (near.empty() ? "" : "; did you mean \"" + near + "\"?");
}

Status ask(BrokerClient& broker, const Submission& submission, DryRun& run) {
    const Result<WorkersReply> workers = broker.call<WorkersReply>(WorkersRequest{});
    if (!workers) return workers.error();
    const Result<FleetReply> fleet = broker.call<FleetReply>(FleetRequest{});
    if (!fleet) return fleet.error();
    judge_submission(submission, workers->workers, *fleet, run);
    return Done{};
}

void print(const Terminal& terminal, const DryRun& run) {
    std::vector<std::vector<Cell>> rows;
    for (const SubmissionValue& value : run.values)
        rows.push_back({{value.name}, {value.value}, {"(" + value.origin + ")", Colour::dim}});
    terminal.print(table(rows, terminal.colour));
    for (const std::string& note : run.notes)
        terminal.print(printable(note, true) + "\n");
    for (const WorkerChance& worker : run.workers)
        terminal.print(chance_line(worker) + "\n");
}

}  // namespace

void judge_submission(const Submission& submission, const std::vector<WorkerView>& workers,
                      const FleetReply& fleet, DryRun& run) {
    const Wanted wanted{.agent = submission.agent,
                        .project = submission.project,
                        .origin = submission.origin,
                        .host = submission.host,
                        .require = submission.require};
    run.notes = fleet_notes(fleet, wanted);
    for (const WorkerView& worker : workers)
        run.workers.push_back(chance_of(worker, wanted));
    const bool is_known =
        submission.agent_in_project || submission.queue_anyway || workers.empty() ||
        std::ranges::any_of(workers,
                            [&](const WorkerView& worker) { return offers(worker, submission); });
    if (!is_known) {
        run.refusal = make_error(ErrorCode::unknown_agent,
                                 unknown_agent(workers, submission) + "; --queue-anyway queues it");
    } else if (fleet.storage_low) {
        run.refusal = make_error(ErrorCode::storage_low,
                                 "the broker is short of disk and accepts nothing now");
    } else if (!fleet.read_only.empty()) {
        run.refusal =
            make_error(ErrorCode::read_only, "the broker is read-only: " + fleet.read_only);
    }
}

int dry_run(Context& context, Submission submission, const PromptHeader& header,
            const GivenOptions& given, bool json) {
    const Terminal& terminal = context.terminal();
    if (const Status placed = place_submission(context, submission); !placed)
        return terminal.fail(placed.error());
    DryRun run{.values = submission_values(submission, header, given),
               .warnings = header.warnings,
               .notes = {},
               .workers = {},
               .refusal = std::nullopt};
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    const Status asked = broker ? ask(**broker, submission, run) : Status(broker.error());
    if (json) {
        terminal.print(dry_run_json(run));
    } else {
        print(terminal, run);
    }
    if (!asked) return terminal.fail(asked.error());
    if (!run.refusal) return kExitOk;
    return terminal.fail(exit_code(run.refusal->code), "would be refused: " + run.refusal->message);
}

}  // namespace iw::ctl
