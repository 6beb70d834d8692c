#include <doctest/doctest.h>

#include "fabric/transfers/device_memory.hpp"
#include "protocols/serve/message_types.hpp"
#include "protocols/serve/prompt_digest.hpp"
#include "protocols/serve/roles.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::decode;
using ranks::decode_worker;
using ranks::front;
using ranks::prefill;
using ranks::prefill_worker;

namespace {

constexpr std::array members{prefill, prefill_worker};
constexpr std::array receivers{decode, decode_worker};

/// Both ranks of a prefill cell; encode and decode are the script's.
struct prefill_cell : role_rig {
  prefill_cell() : role_rig({prefill, prefill_worker}) {}

  cell_id decode_cell() const { return plan.cells_of(serve_role::decode)[0]; }
  static room_id kv_room(std::uint64_t request) { return room_id{100 + request}; }
  static room_id row_room(std::uint64_t request) { return room_id{200 + request}; }

  void submits(std::uint64_t request, std::uint32_t tokens, bool picture = false) {
    submit work{.request = request_id{request},
                .prompt = std::vector<token_id>(tokens, 7),
                .pictures = {},
                .sampling = {},
                .kv_room = kv_room(request),
                .decode_cell = decode_cell(),
                .deadline_ms = 60'000};
    if (picture)
      work.pictures = {{.room = row_room(request),
                        .first_token = 0,
                        .tokens = 4,
                        .grid = {1, 2, 2},
                        .content_hash = 0,
                        .encode_cell = plan.cells_of(serve_role::encode)[0]}};
    say(front, prefill, work);
    expect<ack>().from(prefill).to(front);
  }
  void cancels(std::uint64_t request) { say(front, prefill, cancel{request_id{request}, "the client left"}); }
  /// Both decode ranks grant `blocks` to both ranks of the cell.
  void grants(std::uint64_t request, std::uint32_t blocks, std::uint32_t valid_ms = 60'000,
              generation born = generation{1}) {
    for (const auto to : members)
      for (std::uint32_t part = 0; part < 2; ++part)
        say(receivers[part], to, grant_of(request, part, blocks, valid_ms, born));
  }
  static grant_blocks grant_of(std::uint64_t request, std::uint32_t part, std::uint32_t blocks,
                               std::uint32_t valid_ms = 60'000, generation born = generation{1}) {
    grant_blocks grant{.request = request_id{request},
                       .room = kv_room(request),
                       .part = part,
                       .parts = 2,
                       .prompt_tokens = blocks * limits::kv_block_tokens,
                       .blocks = {},
                       .lease_generation = generation{1},
                       .dtype = element_type::f32,
                       .born = born,
                       .valid_ms = valid_ms};
    for (std::uint32_t i = 0; i < blocks; ++i)
      grant.blocks.emplace_back(i);
    return grant;
  }
  /// The mesh has run the prompt: every rank hears so from its executor.
  void runs(const prefill_leader_machine::run_prefill& what,
            std::shared_ptr<const fabric::device_event> behind = nullptr) {
    for (const auto rank : members)
      tell(rank, prefilled{what.work.request, what.work.kv_room, what.work.decode_cell, what.blocks, behind});
  }
  void has_first_token(const prefill_leader_machine::run_prefill& what) {
    tell(prefill, step_machine::first_token{what.work.request, 11, 0, prompt_digest(what.work.prompt), now(), now()});
    CHECK(expect<timing>().from(prefill).to(front).part == phase::prefill);
  }
  void talk_within_the_cell() {
    while (flow(prefill, prefill_worker) || flow(prefill_worker, prefill)) {
    }
  }
  std::size_t writes_asked_for() {
    return role_rig::writes_asked_for(prefill) + role_rig::writes_asked_for(prefill_worker);
  }
  /// A prompt that needs every block of the cell is run.
  void has_every_block(std::uint64_t request) {
    drop_frames();
    submits(request, 8 * limits::kv_block_tokens);
    CHECK(expect_order<prefill_leader_machine::run_prefill>(prefill).blocks.size() == 8);
  }
};

} // namespace

TEST_CASE_FIXTURE(prefill_cell,
                  "K2: what a prompt computes after its cancel is written to nobody, and the grants go back") {
  submits(1, 32);
  const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
  grants(1, 2);
  cancels(1);
  CHECK(expect_order<prefill_leader_machine::stop_prefill>(prefill).request == request_id{1});
  expect<release>().from(prefill).to(prefill_worker);
  for (const auto writer : members)
    for (const auto owner : receivers)
      CHECK(expect<blocks_returned>().from(writer).to(owner).settled);

  runs(run); // its last piece was under way
  CHECK(writes_asked_for() == 0);
  tell(prefill, step_machine::given_up{request_id{1}, {fault::cancelled, {}}, true});
  talk_within_the_cell();
  has_every_block(2);
}

TEST_CASE_FIXTURE(prefill_cell,
                  "K1: a decode cell that was lost meanwhile is written to under no grant of its old generation") {
  submits(1, 32);
  const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
  grants(1, 2);
  lose({receivers.begin(), receivers.end()}, generation{2});
  regain({receivers.begin(), receivers.end()}, generation{2});
  runs(run);
  CHECK(writes_asked_for() == 0);
  CHECK(expect<error>().from(prefill).to(front).code == static_cast<std::uint16_t>(fault::cell_gone));
  has_first_token(run);
  CHECK(count(serve_type::handover, prefill, decode) == 0);
  CHECK(expect<kv_sent>().from(prefill_worker).to(prefill).code == static_cast<std::uint16_t>(fault::cell_gone));

  for (const auto writer : members) // what was under way
    say(decode, writer, grant_of(1, 0, 2));
  CHECK(writes_asked_for() == 0);
}

TEST_CASE_FIXTURE(prefill_cell, "K1: a grant whose time is over when the prompt is computed is not written under") {
  submits(1, 32);
  const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
  grants(1, 2, 550);
  pass(560ms); // the last tick was before
  runs(run);
  CHECK(writes_asked_for() == 0);
  CHECK(expect<kv_sent>().from(prefill_worker).to(prefill).code == static_cast<std::uint16_t>(fault::stale_grant));
}

TEST_CASE_FIXTURE(prefill_cell, "K15: a part that failed while another was on its way is what the request fails with") {
  for (const bool failed_first : {true, false}) {
    CAPTURE(failed_first);
    const std::uint64_t request = failed_first ? 1 : 2;
    submits(request, 32);
    const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
    grants(request, 2);
    runs(run);
    std::vector<posted_write> writes;
    for (const auto writer : members)
      for (const auto to : receivers)
        writes.push_back(expect_write(writer, to));
    has_first_token(run);
    expect<handover>().from(prefill).to(decode);
    for (const auto i : {0, 1})
      complete(writes[i]);

    const result<void> fails = fail(fault::transfer_failed, "the card says so");
    complete(writes[failed_first ? 2 : 3], fails);
    CHECK(count(serve_type::kv_sent, prefill_worker, prefill) == 0); // one is under way still
    complete(writes[failed_first ? 3 : 2]);
    const auto said = expect<kv_sent>().from(prefill_worker).to(prefill);
    CHECK(said.code == static_cast<std::uint16_t>(fault::transfer_failed));
    const auto told = expect<error>().from(prefill).to(front);
    CHECK(told.request == request_id{request});
    CHECK(told.message.find("the card says so") != std::string::npos);
    talk_within_the_cell();
    CHECK_FALSE(expect<blocks_returned>().from(prefill_worker).to(failed_first ? decode : decode_worker).settled);
    drop_frames();
  }
  has_every_block(3);
}

TEST_CASE_FIXTURE(prefill_cell, "C30: a write that the engine refuses at once fails its request alone") {
  refuse_writes(prefill_worker, fault::peer_gone);
  submits(1, 32);
  const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
  grants(1, 2);
  runs(run);
  for (const auto to : receivers)
    complete(expect_write(prefill, to));
  CHECK(expect<kv_sent>().from(prefill_worker).to(prefill).code == static_cast<std::uint16_t>(fault::peer_gone));
  CHECK(expect<error>().from(prefill).to(front).request == request_id{1});
  has_first_token(run);
  talk_within_the_cell();
  has_every_block(2);
}

TEST_CASE_FIXTURE(prefill_cell, "C15: a request that is cancelled in any phase leaves the whole cell to the next one") {
  enum class phase { gathering, voting, running, stopped, sending };
  std::uint64_t request = 0;
  for (const auto at : {phase::gathering, phase::voting, phase::running, phase::stopped, phase::sending}) {
    CAPTURE(static_cast<int>(at));
    const auto id = ++request;
    drop_frames();
    submits(id, 8 * limits::kv_block_tokens, true);
    expect<reserve_rows>().from(prefill).to(prefill_worker);
    grants(id, 8);
    std::optional<prefill_leader_machine::run_prefill> run;
    if (at != phase::gathering) {
      for (const auto rank : members)
        finish_downloads(ranks::encode, rank, serve_transfer::rows, row_room(id));
      expect<arrived>().from(prefill_worker).to(prefill);
      expect_order<room_vote>(prefill);
    }
    if (at >= phase::running) {
      tell(prefill, step_machine::voted{request_id{id}, {admission::done}});
      run = expect_order<prefill_leader_machine::run_prefill>(prefill);
    }
    std::vector<posted_write> writes;
    if (at == phase::sending) {
      runs(*run);
      has_first_token(*run);
      for (const auto writer : members)
        for (const auto to : receivers)
          writes.push_back(expect_write(writer, to));
    }
    cancels(id);
    cancels(id); // twice is once
    switch (at) {
    case phase::gathering:
      break;
    case phase::voting:
      tell(prefill, step_machine::voted{request_id{id}, {admission::done}});
      break;
    case phase::running:
    case phase::stopped:
      for (auto twice = 0; twice < 2; ++twice)
        expect_order<prefill_leader_machine::stop_prefill>(prefill);
      talk_within_the_cell();
      if (at == phase::running)
        runs(*run); // too late to be stopped
      tell(prefill, step_machine::given_up{request_id{id}, {fault::cancelled, {}}, at == phase::running});
      break;
    case phase::sending:
      for (const auto& each : writes)
        complete(each);
      break;
    }
    talk_within_the_cell();
    if (at == phase::gathering) // its encode cell has written nowhere and says so
      for (const auto rank : members) {
        expect<grant_rows>().from(rank).to(ranks::encode);
        expect<revoke_rows>().from(rank).to(ranks::encode);
        say(ranks::encode, rank, rows_returned{request_id{id}, row_room(id), true});
      }
    talk_within_the_cell();
    CHECK_FALSE(has_order(prefill));
    for (const auto rank : members)
      CHECK(board_says(rank, row_room(id)) == admission::failed); // forgotten
  }
  has_every_block(++request);
}

TEST_CASE_FIXTURE(prefill_cell,
                  "K2: row slots are lent again when every writer has said no more, or was reaped, and not before") {
  for (std::uint64_t id = 1; id <= 4; ++id) // all row slots there are
    submits(id, 8, true);
  for (std::uint64_t id = 1; id <= 4; ++id)
    cancels(id);
  talk_within_the_cell();
  submits(5, 8, true);
  submits(6, 8, true);
  drop_frames();
  const auto have_slots = [&] { return count(serve_type::grant_rows, prefill, ranks::encode); };
  pass(30s);
  talk_within_the_cell();
  CHECK(have_slots() == 0);

  say(ranks::encode, prefill, rows_returned{request_id{1}, row_room(1), true});
  talk_within_the_cell();
  CHECK(have_slots() == 0); // what the worker has lent is still out
  say(ranks::encode, prefill_worker, rows_returned{request_id{1}, row_room(1), true});
  CHECK(have_slots() == 0); // its leader does not know
  talk_within_the_cell();
  CHECK(have_slots() == 1);

  lose({ranks::encode, ranks::encode_worker}, generation{2});
  talk_within_the_cell();
  CHECK(have_slots() == 1);
  reap({ranks::encode, ranks::encode_worker});
  talk_within_the_cell();
  CHECK(have_slots() == 2);
}

TEST_CASE_FIXTURE(prefill_cell,
                  "E16: what keys and values stand behind is held until they are written, and no longer") {
  struct moment final : fabric::device_event {};
  auto at = std::make_shared<const moment>();
  const std::weak_ptr<const moment> held = at;
  submits(1, 32);
  const auto run = expect_order<prefill_leader_machine::run_prefill>(prefill);
  cancels(1);
  expect_order<prefill_leader_machine::stop_prefill>(prefill);
  talk_within_the_cell();
  runs(run, std::move(at)); // after the release of its request
  pass(200ms);
  CHECK(held.expired());

  at = std::make_shared<const moment>();
  const std::weak_ptr<const moment> written = at;
  tell(prefill, step_machine::given_up{request_id{1}, {fault::cancelled, {}}, true});
  talk_within_the_cell();
  drop_frames();
  submits(2, 32);
  const auto next = expect_order<prefill_leader_machine::run_prefill>(prefill);
  runs(next, std::move(at));
  pass(200ms);
  CHECK_FALSE(written.expired()); // its grants are still to come
  grants(2, 2);
  for (const auto writer : members)
    for (const auto to : receivers) {
      const auto write = expect_write(writer, to);
      CHECK(write.behind == written.lock());
      complete(write);
    }
  has_first_token(next);
  talk_within_the_cell();
  pass(200ms);
  CHECK(written.expired());
}
