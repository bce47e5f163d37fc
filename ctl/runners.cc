#include "ctl/runners.h"

#include "common/io/config_file.h"
#include "common/io/files.h"
#include "ctl/context.h"

namespace iw::ctl {

std::string Runners::root_of(const SessionView& session) {
    if (session.host != context_.host()) return {};
    if (!roots_) {
        roots_.emplace();
        const Result<BrokerClient*> broker = context_.broker(Insistence::brief);
        if (!broker) return session.origin.root;
        const Result<WorkersReply> reply = (*broker)->call<WorkersReply>(WorkersRequest{});
        if (!reply) return session.origin.root;
        for (const WorkerView& worker : reply->workers) {
            if (worker.host == context_.host()) (*roots_)[worker.name.str()] = worker.root;
        }
    }
    const auto found = roots_->find(session.worker);
    return found == roots_->end() ? session.origin.root : found->second;
}

std::string Runners::state_of(const std::string& root) {
    // One state folder is configured at most, and there may be several workers here.
    const std::string usual = io::fleet_paths(root).worker_state;
    return io::lock_holder(usual + "/lock") ? usual : context_.worker_state(root);
}

}  // namespace iw::ctl
