// What scripts edit in a state.json: parent, tags and metadata.

#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::LiveStateModel;
using testing::seconds;

struct Scene : CoreDriver {
    explicit Scene(std::uint32_t slots) {
        WorkerHello offer = worker("w");
        offer.slots = slots;
        hello(offer, 7);
    }
    Actions edit(EditRequest request, Caller by, std::optional<SessionView> kept) {
        last =
            step(EditEvent{.caller = by, .request = std::move(request), .kept = std::move(kept)});
        return last;
    }
    // The sentences of refusal.
    std::vector<std::string> edit(EditRequest request) {
        return reply<EditReply>(edit(std::move(request), caller(1), std::nullopt)).refused;
    }
    std::vector<std::string> set_parent(const SessionId& id, const SessionId& parent) {
        return edit({.id = id.str(), .parent = parent});
    }
    SessionId below(const SessionId& parent) {
        Submission child = submission("a");
        child.parent = parent;
        return submitted(child);
    }
    SessionId waiting() {
        Submission plain = submission("nobody-has-it");
        plain.queue_anyway = true;
        return submitted(plain);
    }
    Actions finish(const SessionId& id) {
        report("w", 7, id, fence(id), exited(0));
        return last;
    }
};

using Sentences = std::vector<std::string>;

TEST(Edit, TagsAndMetadataAreTakenAndKept) {
    Scene scene(1);
    const SessionId id = scene.submitted("a");
    EXPECT_EQ(scene.edit({.id = id.str(), .tags = Sentences{"x", "y"}, .metadata = "{\"a\":1}"}),
              Sentences{});
    EXPECT_EQ(scene.view(id).tags, (Sentences{"x", "y"}));
    EXPECT_EQ(scene.view(id).metadata, "{\"a\":1}");
    const std::uint64_t revision = scene.view(id).revision;
    // A repeat changes nothing, and what is left out stays.
    scene.edit({.id = id.str(), .tags = Sentences{"x", "y"}});
    EXPECT_TRUE(scene.last.records.empty());
    EXPECT_EQ(scene.view(id).revision, revision);
    scene.edit({.id = id.str(), .metadata = ""});
    EXPECT_EQ(scene.view(id).metadata, "");
    EXPECT_EQ(scene.view(id).tags, (Sentences{"x", "y"}));
    EXPECT_EQ(scene.replayed().view(id, scene.time)->tags, (Sentences{"x", "y"}));
}

TEST(Edit, WhatIsTakenIsTakenAlthoughTheRestIsRefused) {
    Scene scene(1);
    const SessionId id = scene.submitted("a");
    const SessionId nobody("20251118-000000-nobody");
    const Sentences refused =
        scene.edit({.id = id.str(), .parent = nobody, .tags = Sentences{"kept"}});
    EXPECT_EQ(refused, Sentences{"parent: parent " + nobody.str() + " is not a live session"});
    EXPECT_EQ(scene.view(id).tags, Sentences{"kept"});
    EXPECT_TRUE(scene.view(id).parent.empty());
}

// Example 8 of the user with one slot in all: the child runs on its parent's slot at once.
TEST(Edit, ANewParentLendsItsSlot) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    const SessionId child = scene.submitted("a");
    EXPECT_EQ(scene.shown(child), "CREATED/queued");
    EXPECT_EQ(scene.set_parent(child, parent), Sentences{});
    EXPECT_EQ(scene.shown(child), "CREATED/assigned");
    EXPECT_EQ(scene.view(child).parent, parent);
    EXPECT_EQ(scene.used("w"), 1u);
    // And lends it no longer: over its capacity nothing new is given out.
    EXPECT_EQ(scene.set_parent(child, SessionId()), Sentences{});
    EXPECT_EQ(scene.used("w"), 2u);
    EXPECT_EQ(scene.shown(scene.submitted("a")), "CREATED/queued");
    scene.finish(child);
    EXPECT_EQ(scene.used("w"), 1u);
}

// The other way round: of two that run, one becomes the child of the other, and a slot is free.
TEST(Edit, ANewParentOfARunningOneFreesASlot) {
    Scene scene(2);
    const SessionId parent = scene.submitted("a");
    const SessionId child = scene.submitted("a");
    const SessionId third = scene.submitted("a");
    EXPECT_EQ(scene.shown(third), "CREATED/queued");
    scene.set_parent(child, parent);
    EXPECT_EQ(scene.shown(third), "CREATED/assigned");
}

TEST(Edit, AKillTakesTheNewChildrenAlong) {
    Scene scene(0);
    const SessionId parent = scene.waiting();
    const SessionId child = scene.waiting();
    const SessionId grandchild = scene.below(child);
    scene.set_parent(child, parent);
    scene.kill(parent, "enough");
    EXPECT_EQ(scene.outcome_text(child), "KILLED/parent-killed");
    EXPECT_EQ(scene.outcome_text(grandchild), "KILLED/parent-killed");
}

TEST(Edit, AKillSparesTheFormerChildren) {
    Scene scene(4);
    const SessionId parent = scene.waiting();
    const SessionId child = scene.below(parent);
    EXPECT_EQ(scene.shown(child), "CREATED/assigned");
    scene.set_parent(child, SessionId());
    scene.kill(parent, "enough");
    EXPECT_EQ(scene.shown(child), "CREATED/assigned");
}

TEST(Edit, CirclesAreRefused) {
    Scene scene(4);
    const SessionId top = scene.waiting();
    const SessionId middle = scene.below(top);
    const SessionId bottom = scene.below(middle);
    EXPECT_EQ(
        scene.set_parent(top, top),
        Sentences{"parent: " + top.str() + " is the session itself; that would close a circle"});
    EXPECT_EQ(scene.set_parent(top, bottom),
              Sentences{"parent: " + bottom.str() + " is below session " + top.str() +
                        "; that would close a circle"});
    EXPECT_TRUE(scene.view(top).parent.empty());
}

TEST(Edit, DepthCountsWhatMovesAlong) {
    Scene scene(4);
    SessionId deep = scene.waiting();
    for (int depth = 1; depth <= 6; ++depth)
        deep = scene.below(deep);
    const SessionId top = scene.waiting();
    const SessionId child = scene.below(top);
    EXPECT_EQ(scene.set_parent(top, deep), Sentences{});
    EXPECT_EQ(scene.set_parent(top, SessionId()), Sentences{});
    const SessionId grandchild = scene.below(child);
    EXPECT_EQ(scene.set_parent(top, deep),
              Sentences{"parent: session " + grandchild.str() +
                        " would have 9 sessions above it; 8 are the most"});
}

TEST(Edit, WhatTheLocalSocketVouchedForStays) {
    Scene scene(2);
    const SessionId parent = scene.submitted("a");
    const SessionId child = scene.submitted_inside(parent);
    const SessionId other = scene.waiting();
    EXPECT_EQ(scene.set_parent(child, other),
              Sentences{"parent: session " + child.str() + " was submitted inside " + parent.str() +
                        ", which stays its parent"});
    // What it is already is no edit.
    EXPECT_EQ(scene.set_parent(child, parent), Sentences{});
}

TEST(Edit, NobodyIsMovedBelowWhatItWaitsFor) {
    Scene scene(2);
    const SessionId first = scene.waiting();
    Submission after = CoreDriver::submission("a");
    after.after = {{.id = first, .on = AfterCondition::any_end}};
    const SessionId second = scene.submitted(after);
    EXPECT_EQ(scene.set_parent(second, first).size(), 1u);
    EXPECT_TRUE(scene.view(second).parent.empty());
}

TEST(Edit, OneThatIsBeingKilledGetsNoChildren) {
    Scene scene(2);
    const SessionId parent = scene.submitted("a");
    const SessionId child = scene.waiting();
    scene.kill(parent, "enough");
    EXPECT_EQ(scene.set_parent(child, parent).size(), 1u);
}

TEST(Edit, OnceItHasEndedOnlyWordsChange) {
    Scene scene(2);
    const SessionId other = scene.waiting();
    const SessionId id = scene.submitted("a");
    scene.finish(id);
    EXPECT_EQ(scene.shown(id), "RUNNING/delivering");
    EXPECT_EQ(scene.edit({.id = id.str(), .parent = other, .tags = Sentences{"late"}}).size(), 1u);
    EXPECT_EQ(scene.view(id).tags, Sentences{"late"});
    scene.report("w", 7, id, {1, 1}, ClosedReport{});
    EXPECT_EQ(scene.shown(id), "gone");
    SessionView kept;
    kept.id = id;
    kept.status = SessionStatus::completed;
    kept.tags = {"late"};
    kept.revision = 6;
    const Actions actions = scene.edit({.id = id.str(), .parent = other, .metadata = "{}"},
                                       CoreDriver::caller(1), kept);
    const EditReply answer = CoreDriver::reply<EditReply>(actions);
    EXPECT_EQ(answer.refused.size(), 1u);
    EXPECT_EQ(answer.session.metadata, "{}");
    EXPECT_EQ(answer.session.revision, 7u);
    const auto records = CoreDriver::records<SessionEdited>(actions);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_FALSE(records[0].parent || records[0].tags);
    EXPECT_EQ(records[0].metadata, "{}");
    // Recovery passes over it, too.
    EXPECT_FALSE(scene.replayed().is_live(id));
    EXPECT_EQ(CoreDriver::refusal(
                  scene.edit({.id = id.str(), .tags = Sentences{}}, CoreDriver::caller(1), {}))
                  ->code,
              ErrorCode::not_found);
}

TEST(Edit, FromInsideOnlyItsOwn) {
    Scene scene(3);
    const SessionId parent = scene.submitted("a");
    const SessionId child = scene.submitted_inside(parent);
    const SessionId other = scene.submitted("a");
    Caller inside = CoreDriver::caller(7);
    inside.inside = AttemptRef{parent, scene.fence(parent)};
    const auto code = [&](const SessionId& id, std::optional<SessionView> kept) {
        const auto error = CoreDriver::refusal(
            scene.edit({.id = id.str(), .tags = Sentences{"mine"}}, inside, std::move(kept)));
        return error ? std::string(name(error->code)) : "ok";
    };
    EXPECT_EQ(code(parent, {}), "ok");
    EXPECT_EQ(code(child, {}), "ok");
    EXPECT_EQ(code(other, {}), "FORBIDDEN");
    SessionView kept;
    kept.id = SessionId("20251118-000000-old");
    kept.status = SessionStatus::killed;
    EXPECT_EQ(code(kept.id, kept), "FORBIDDEN");
    kept.parent = parent;
    EXPECT_EQ(code(kept.id, kept), "ok");
    inside.inside->fence.attempt = 9;
    EXPECT_EQ(code(child, {}), "STALE_FENCE");
}

// Anybody who can write a state.json can put a session below another one. That one may lend it its
// slot, but does not rule over it.
TEST(Edit, AnEditGivesNoRightsOverTheChild) {
    Scene scene(4);
    const SessionId ruler = scene.submitted("a");
    const SessionId own = scene.submitted_inside(ruler);
    const SessionId other = scene.submitted("a");
    const SessionId others_child = scene.submitted_inside(other);
    EXPECT_EQ(scene.set_parent(other, own), Sentences{});
    Caller inside = CoreDriver::caller(7);
    inside.inside = AttemptRef{ruler, scene.fence(ruler)};
    const auto code = [&scene](CoreEvent event) {
        const auto error = CoreDriver::refusal(scene.step(std::move(event)));
        return error ? std::string(name(error->code)) : "ok";
    };
    for (const SessionId& id : {other, others_child}) {
        EXPECT_EQ(code(KillEvent{.caller = inside, .id = id, .reason = "mine"}), "FORBIDDEN");
        EXPECT_EQ(code(ExtendEvent{.caller = inside, .id = id, .add = seconds(60)}), "FORBIDDEN");
        EditEvent edit{.caller = inside, .request = {.id = id.str(), .tags = Sentences{"mine"}}};
        EXPECT_EQ(code(edit), "FORBIDDEN");
    }
    // It keeps what is its own, wherever that stands now.
    Caller above = CoreDriver::caller(7);
    above.inside = AttemptRef{other, scene.fence(other)};
    EXPECT_EQ(code(KillEvent{.caller = above, .id = others_child, .reason = "mine"}), "ok");
    EXPECT_EQ(code(KillEvent{.caller = inside, .id = own, .reason = "mine"}), "ok");
}

// Its slot would be lent to who asks from inside another family, and what is held there run.
TEST(Edit, FromInsideNobodyMovesToAnotherFamily) {
    Scene scene(4);
    const SessionId mover = scene.submitted("a");
    const SessionId other = scene.submitted("a");
    Caller inside = CoreDriver::caller(7);
    inside.inside = AttemptRef{mover, scene.fence(mover)};
    const Actions actions = scene.edit({.id = mover.str(), .parent = other}, inside, std::nullopt);
    EXPECT_EQ(
        CoreDriver::reply<EditReply>(actions).refused,
        Sentences{"parent: session " + other.str() + " was not submitted inside " + mover.str()});
    EXPECT_TRUE(scene.view(mover).parent.empty());
}

// A parent may be younger than its child; a start reads the child first.
TEST(Edit, AStartKnowsAParentThatIsYounger) {
    Scene scene(1);
    const SessionId child = scene.waiting();
    const SessionId grandchild = scene.below(child);
    scene.finish(grandchild);
    scene.report("w", 7, grandchild, {1, 1}, ClosedReport{});
    const SessionId other = scene.below(child);
    EXPECT_EQ(scene.shown(other), "CREATED/assigned");
    scene.advance(seconds(2));
    const SessionId parent = scene.waiting();
    scene.set_parent(child, parent);
    LiveStateModel model;
    for (const Record& record : scene.journal)
        model.apply(record);
    BrokerCore restored(CoreConfig{}, 1);
    restored.restore(model.state());
    restored.started(scene.time);
    restored.check_invariants();
    Actions actions = restored.step(
        scene.time, KillEvent{.caller = CoreDriver::caller(1), .id = parent, .reason = "enough"});
    restored.check_invariants();
    std::set<SessionId> killed;
    for (const SessionEnded& ended : CoreDriver::records<SessionEnded>(actions))
        killed.insert(ended.id);
    for (const KillWished& wished : CoreDriver::records<KillWished>(actions))
        killed.insert(wished.id);
    EXPECT_EQ(killed, (std::set{child, other, parent}));
}

}  // namespace
}  // namespace iw::broker
