#include <doctest/doctest.h>

#include "actors/serve/front_actor.hpp"
#include "protocols/serve/message_types.hpp"
#include "tests/actors/role_rig.hpp"

using namespace troupe;
using namespace troupe::actors;
using namespace troupe::protocols;
using namespace troupe::tests;
using ranks::front;

namespace {

/// The front, whose cells and clients are the script's.
struct front_scene : role_rig {
  front_scene() : role_rig({front}) {}
  explicit front_scene(cluster_spec spec) : role_rig({front}, std::move(spec)) {}

  struct attempt {
    request_id id;
    rank_id prefill;
    rank_id decode;
  };

  void asks(std::uint64_t tag, bool picture = false, fabric::link_queues::key of = client) {
    client_sends(ask{.tag = tag,
                     .prompt = "?",
                     .picture_names = picture ? std::vector<std::string>{"a"} : std::vector<std::string>{},
                     .picture_bytes = picture ? std::vector<std::uint64_t>{3} : std::vector<std::uint64_t>{},
                     .max_tokens = 4,
                     .sampling = {}},
                 of);
    if (picture)
      client_sends(picture_chunk{tag, 0, std::vector<std::byte>(3)}, of);
  }
  void is_read_and_accepted(fabric::link_queues::key of = client) {
    ingested(expect_ingest(), 20);
    expect<accepted>().from(front).to_client(of);
  }
  bool has_started() {
    return count(serve_type::submit, front, ranks::prefill) + count(serve_type::submit, front, ranks::other_prefill) >
           0;
  }
  /// The orders of the next attempt; every leader acknowledges.
  attempt starts() {
    attempt one;
    for (const auto leader : {ranks::decode, ranks::other_decode})
      if (one.decode == rank_id{} && count(serve_type::reserve_kv, front, leader) > 0) {
        one.decode = leader;
        one.id = expect<reserve_kv>().from(front).to(leader).request;
      }
    for (const auto leader : {ranks::prefill, ranks::other_prefill})
      if (one.prefill == rank_id{} && count(serve_type::submit, front, leader) > 0) {
        one.prefill = leader;
        for (const auto& each : expect<submit>().from(front).to(leader).pictures) {
          const auto encode = plan.cell(each.encode_cell).leader();
          expect<protocols::encode>().from(front).to(encode);
          say(encode, front, ack{one.id});
        }
      }
    REQUIRE(one.id != request_id{});
    say(one.prefill, front, ack{one.id});
    say(one.decode, front, ack{one.id});
    return one;
  }
  attempt serves(std::uint64_t tag) {
    asks(tag);
    is_read_and_accepted();
    return starts();
  }
  void answers(const attempt& one, std::uint32_t index, finish_reason end = finish_reason::none) {
    say(one.decode, front, tokens{{{one.id, index, 11, end}}});
    CHECK(expect<answer>().from(front).to_client().index == index);
  }
  void fails(rank_id from, const attempt& one, fault code, const std::string& where) {
    say(from, front,
        error{.code = static_cast<std::uint16_t>(code),
              .message = "as the script says",
              .origin = from,
              .call = {},
              .where = where,
              .request = one.id});
  }
  finished is_finished(finish_reason how) {
    auto end = expect<finished>().from(front).to_client();
    CHECK(end.reason == how);
    return end;
  }
  void are_told_to_cancel(const attempt& one) {
    CHECK(expect<cancel>().from(front).to(one.prefill).request == one.id);
    CHECK(expect<cancel>().from(front).to(one.decode).request == one.id);
  }
};

struct one_pixel_slot : front_scene {
  one_pixel_slot() : front_scene(spec()) {}
  static cluster_spec spec() {
    auto small = small_spec();
    small.limits.pixel_slots = 1;
    return small;
  }
  void grants_slot(std::uint32_t lease_generation) {
    say(ranks::encode, front,
        grant_pixels{.slots = {{slot_index{0}, generation{lease_generation}}}, .born = generation{1}});
  }
};

} // namespace

TEST_CASE_FIXTURE(
    one_pixel_slot,
    "K3: a picture whose writes are reported late keeps its staging slot, and the next ones wait or take another") {
  std::vector<posted_write> writes;
  std::set<std::uint64_t> offsets;
  for (std::uint32_t tag = 1; tag <= 2; ++tag) { // served whole; no write of theirs is reported
    grants_slot(tag);
    asks(tag, true);
    is_read_and_accepted();
    const auto one = starts();
    for (const auto to : {ranks::encode, ranks::encode_worker})
      writes.push_back(expect_write(front, to));
    offsets.insert(writes.back().what.pieces.front().source_offset);
    answers(one, 0, finish_reason::stop);
    is_finished(finish_reason::stop);
  }
  CHECK(offsets.size() == 2);

  grants_slot(3);
  asks(3, true);
  is_read_and_accepted();
  CHECK_FALSE(has_started()); // both staging slots may still be read
  complete(writes[0]);
  CHECK_FALSE(has_started());
  complete(writes[1]);
  starts();
  CHECK(expect_write(front, ranks::encode).what.pieces.front().source_offset ==
        writes[0].what.pieces.front().source_offset);
}

TEST_CASE_FIXTURE(front_scene,
                  "K9: a question that is withdrawn ends as cancelled wherever it is, and is served to nobody") {
  enum class phase { arriving, ingesting, started, answering };
  std::uint64_t tag = 0;
  for (const auto at : {phase::arriving, phase::ingesting, phase::started, phase::answering}) {
    CAPTURE(static_cast<int>(at));
    ++tag;
    drop_frames();
    if (at == phase::arriving) {
      client_sends(ask{
          .tag = tag, .prompt = "?", .picture_names = {"a"}, .picture_bytes = {3}, .max_tokens = 4, .sampling = {}});
    } else {
      asks(tag);
    }
    std::optional<ingest_order> reading;
    if (at == phase::ingesting)
      reading = expect_ingest();
    std::optional<attempt> one;
    if (at >= phase::started) {
      is_read_and_accepted();
      one = starts();
    }
    if (at == phase::answering)
      answers(*one, 0);
    client_sends(withdraw{tag});
    is_finished(finish_reason::cancelled);
    if (reading) {
      CHECK_FALSE(reading->is_wanted());
      ingested(*reading, 20);
      CHECK_FALSE(has_started());
    }
    if (at == phase::started)
      are_told_to_cancel(*one);
    if (at == phase::answering)
      CHECK(expect<cancel>().from(front).to(one->decode).request == one->id);
    client_sends(withdraw{tag}); // it has ended before
    if (one)
      say(one->decode, front, tokens{{{one->id, at == phase::answering ? 1u : 0u, 12, finish_reason::none}}}); // late
    expect_silence();
    CHECK_FALSE(has_ingest());
  }
}

TEST_CASE_FIXTURE(front_scene,
                  "K9: what a client that leaves had asked is served to nobody, also while it is being read") {
  asks(1);
  const auto reading = expect_ingest();
  asks(2);
  is_read_and_accepted();
  const auto one = starts();
  client_leaves();
  CHECK_FALSE(reading.is_wanted());
  are_told_to_cancel(one);
  ingested(reading, 20);
  expect_silence();
}

TEST_CASE_FIXTURE(front_scene,
                  "C46: from the first token on decode alone can fail an answer, and nobody else's word ever does") {
  const auto one = serves(1);
  fails(one.prefill == ranks::prefill ? ranks::other_prefill : ranks::prefill, one, fault::transfer_failed, "prefill");
  fails(one.decode == ranks::decode ? ranks::other_decode : ranks::decode, one, fault::transfer_failed, "decode");
  CHECK_FALSE(has_started()); // no second attempt
  answers(one, 0);
  fails(one.prefill, one, fault::transfer_failed, "prefill"); // late
  answers(one, 1);
  fails(one.decode, one, fault::no_memory, "decode");
  is_finished(finish_reason::failed);
}

TEST_CASE_FIXTURE(front_scene,
                  "D7: what fails before its first token is served again by another attempt, and after it is not") {
  const auto first = serves(1);
  fails(first.prefill, first, fault::transfer_failed, "prefill");
  are_told_to_cancel(first);
  CHECK_FALSE(has_started()); // its pause
  pass(limits::retry_pause);
  const auto second = starts();
  CHECK(second.id != first.id);
  say(first.decode, front, tokens{{{first.id, 0, 12, finish_reason::none}}}); // of an attempt that has ended
  answers(second, 0);
  fails(second.decode, second, fault::transfer_failed, "decode");
  const auto end = is_finished(finish_reason::failed);
  CHECK(end.message.find("as the script says") != std::string::npos);
}

TEST_CASE_FIXTURE(front_scene, "D6: a lost cell's requests go to another cell, or wait until one is back") {
  const auto first = serves(1);
  const auto lost_one = first.decode == ranks::decode ? std::vector{ranks::decode, ranks::decode_worker}
                                                      : std::vector{ranks::other_decode, rank_id{12}};
  lose(lost_one, generation{2});
  CHECK(expect<cancel>().from(front).to(first.prefill).request == first.id);
  drop_frames_to(first.decode);
  const auto second = starts();
  CHECK(second.decode != first.decode);

  const auto other = second.decode == ranks::decode ? std::vector{ranks::decode, ranks::decode_worker}
                                                    : std::vector{ranks::other_decode, rank_id{12}};
  lose(other, generation{2});
  CHECK_FALSE(has_started());
  drop_frames();
  regain(lost_one, generation{2});
  const auto third = starts();
  CHECK(third.decode == first.decode);
  answers(third, 0, finish_reason::stop);
  is_finished(finish_reason::stop);
}

TEST_CASE_FIXTURE(front_scene, "K17: a drain ends what is asked later, finishes what was accepted, and is said once") {
  SUBCASE("nothing was accepted") {
    drain();
    CHECK(drained);
  }
  SUBCASE("one is served, one is being read") {
    const auto one = serves(1);
    asks(2);
    const auto reading = expect_ingest();
    drain();
    drain();
    CHECK_FALSE(drained);
    asks(3);
    CHECK(expect<refused>().from(front).to_client().tag == 2);
    CHECK(expect<refused>().from(front).to_client().tag == 3);
    ingested(reading, 20);
    CHECK_FALSE(has_started());
    answers(one, 0);
    answers(one, 1, finish_reason::stop);
    is_finished(finish_reason::stop);
    CHECK(drained);
  }
  SUBCASE("one takes longer than the drain may") {
    const auto one = serves(1);
    drain();
    pass(4s); // three quarters of drain_ms
    CHECK(is_finished(finish_reason::failed).message.find("drain") != std::string::npos);
    are_told_to_cancel(one);
    CHECK(drained);
  }
  expect_silence();
}

TEST_CASE_FIXTURE(front_scene,
                  "K9: a client that does not read for a whole queue is let go, and its questions with it") {
  const auto one = serves(1);
  asks(7, false, client + 1);
  is_read_and_accepted(client + 1);
  const auto other = starts();
  break_link(front, client, fault::queue_full);
  say(one.decode, front, tokens{{{one.id, 0, 11, finish_reason::none}}});
  CHECK(removed == std::set<fabric::link_queues::key>{client});
  CHECK(expect<cancel>().from(front).to(one.decode).request == one.id);
  say(other.decode, front, tokens{{{other.id, 0, 11, finish_reason::stop}}});
  expect<answer>().from(front).to_client(client + 1);
  CHECK(expect<finished>().from(front).to_client(client + 1).reason == finish_reason::stop);
}

TEST_CASE_FIXTURE(front_scene, "C30: pixels whose write the engine refuses are a further attempt's") {
  say(ranks::encode, front,
      grant_pixels{.slots = {{slot_index{0}, generation{1}}, {slot_index{1}, generation{1}}}, .born = generation{1}});
  refuse_writes(front, fault::peer_gone);
  asks(1, true);
  is_read_and_accepted();
  const auto first = starts();
  are_told_to_cancel(first);
  CHECK(expect<cancel>().from(front).to(ranks::encode).request == first.id);
  CHECK(expect<pixels_returned>().from(front).to(ranks::encode).settled);
  refuse_writes(front, std::nullopt);
  pass(limits::retry_pause);
  const auto second = starts();
  for (const auto to : {ranks::encode, ranks::encode_worker})
    complete(expect_write(front, to));
  answers(second, 0, finish_reason::stop);
  is_finished(finish_reason::stop);
}
