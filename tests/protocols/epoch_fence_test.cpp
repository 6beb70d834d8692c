#include "protocols/cluster/epoch_fence.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "protocols/cluster/validate_epoch.hpp"
#include "protocols/serve/message_partners.hpp"
#include "protocols/wire/edge_messages.hpp"
#include "tests/protocols/serve_fixture.hpp"

using namespace troupe::protocols;

namespace {

const cluster_plan plan = reader_plan();
const cell_id encode_cell = plan.cells_of(serve_role::encode).front();
const cell_id prefill_cell = plan.cells_of(serve_role::prefill).front();
const cell_id decode_cell = plan.cells_of(serve_role::decode).front();

lost loss_of(std::vector<rank_id> ranks, std::uint64_t epoch) {
  return {.ranks = std::move(ranks), .next = generation{2}, .cause = "killed", .epoch = cache_epoch{epoch}};
}
lost loss_of(cell_id cell, std::uint64_t epoch) {
  return loss_of(plan.cell(cell).ranks, epoch);
}

/// After the losses of encode in epoch 2, of prefill in 3 and of decode in 4.
epoch_fence after_all() {
  epoch_fence fence{first_epoch};
  fence.on_lost(loss_of(encode_cell, 2));
  fence.on_lost(loss_of(prefill_cell, 3));
  fence.on_lost(loss_of(decode_cell, 4));
  return fence;
}

template <class Message>
bool holds(const epoch_fence& fence, const Message& what, std::uint64_t sent_in, rank_id source = front_rank) {
  const auto judged = validate_epoch(fence, plan, source, cache_epoch{sent_in}, what);
  CHECK((judged || judged.error().code == fault::stale_epoch));
  return judged.has_value();
}

} // namespace

TEST_CASE("D8: what was sent before the loss of a rank says nothing of that rank any more, and what is sent after it "
          "does") {
  const auto fence = after_all();
  CHECK(fence.current() == cache_epoch{4});
  CHECK(fence.validate(cache_epoch{1}, encode_rank).error().code == fault::stale_epoch);
  CHECK(fence.validate(cache_epoch{2}, encode_rank));
  CHECK(fence.validate(cache_epoch{2}, prefill_worker).error().code == fault::stale_epoch);
  CHECK(fence.validate(cache_epoch{3}, prefill_worker));
  CHECK(fence.validate(cache_epoch{9}, decode_rank)); // its sender has learnt of a loss that this rank has not
  CHECK(fence.validate(cache_epoch{1}, front_rank));  // which was never lost
}

TEST_CASE("D2: news of a loss counts once, in any order, and one from before the process nothing") {
  epoch_fence fence{cache_epoch{3}};
  fence.on_lost(loss_of(encode_cell, 2));
  fence.on_lost(loss_of(encode_cell, 3));
  CHECK(fence.validate(cache_epoch{3}, encode_rank));
  CHECK(fence.current() == cache_epoch{3});
  fence.on_lost(loss_of(encode_cell, 5));
  fence.on_lost(loss_of(encode_cell, 4));
  fence.on_lost(loss_of(encode_cell, 5));
  CHECK(fence.current() == cache_epoch{5});
  CHECK_FALSE(fence.validate(cache_epoch{4}, encode_rank));
}

TEST_CASE("D2: no edge begins in an epoch before its rank's own, or before the loss of its peer") {
  epoch_fence fence{cache_epoch{3}};
  CHECK(fence.validate_hello(cache_epoch{2}, encode_rank).error().code == fault::stale_epoch);
  CHECK(fence.validate_hello(cache_epoch{3}, encode_rank));
  fence.on_lost(loss_of(encode_cell, 4));
  CHECK(fence.validate_hello(cache_epoch{3}, encode_rank).error().code == fault::stale_epoch);
  CHECK(fence.validate_hello(cache_epoch{4}, encode_rank)); // of the next generation
}

TEST_CASE("D2: a frame is of its edge's epoch, or of a later one where the edge outlives losses") {
  for (const bool spans : {false, true}) {
    CAPTURE(spans);
    CHECK(validate_frame_epoch(cache_epoch{3}, spans, cache_epoch{2}).error().code == fault::stale_epoch);
    CHECK(validate_frame_epoch(cache_epoch{3}, spans, cache_epoch{3}));
    CHECK(validate_frame_epoch(cache_epoch{3}, spans, cache_epoch{4}).has_value() == spans);
  }
  CHECK(spans_epochs(channel_kind::control));
  CHECK_FALSE(spans_epochs(channel_kind::group));
  CHECK_FALSE(spans_epochs(channel_kind::tokens));
}

TEST_CASE("D8: an order to begin something with a cell that was lost since is too old, whoever gives it") {
  const auto fence = after_all();
  submit work{.request = {}, .prompt = {}, .pictures = {}, .sampling = {}, .kv_room = {}, .decode_cell = decode_cell};
  CHECK_FALSE(holds(fence, work, 3));
  CHECK(holds(fence, work, 4));
  picture_item picture;
  picture.encode_cell = encode_cell;
  epoch_fence encode_gone{first_epoch};
  encode_gone.on_lost(loss_of(encode_cell, 2));
  CHECK(holds(encode_gone, work, 1)); // of text alone: the loss does not touch it
  work.pictures.push_back(picture);
  CHECK_FALSE(holds(encode_gone, work, 1));

  reserve_kv room;
  room.prefill_cell = prefill_cell;
  CHECK_FALSE(holds(fence, room, 2));
  CHECK(holds(fence, room, 3));
  reserve_blocks blocks;
  blocks.prefill_cell = prefill_cell;
  CHECK_FALSE(holds(encode_gone, blocks, 0, encode_rank));
  CHECK_FALSE(holds(fence, blocks, 2));
  CHECK(holds(fence, blocks, 3));
  reserve_rows rows;
  rows.encode_cell = encode_cell;
  CHECK_FALSE(holds(fence, rows, 1));
  CHECK(holds(fence, rows, 2));
}

TEST_CASE("K3: an order that brings a slot back is taken though the cell that it names was lost since") {
  encode order;
  order.prefill_cell = prefill_cell;
  CHECK(holds(after_all(), order, 1));
}

TEST_CASE("D8: nothing counts that a rank sent before it was lost, and all that other ranks send of what goes on") {
  const auto fence = after_all();
  const auto all_hold = [&](std::uint64_t sent_in, rank_id source, const auto&... what) {
    return (holds(fence, what, sent_in, source) && ...);
  };
  const auto none_holds = [&](std::uint64_t sent_in, rank_id source, const auto&... what) {
    return (!holds(fence, what, sent_in, source) && ...);
  };
  CHECK(none_holds(1, encode_rank, rows_returned{}, grant_pixels{}, ack{}, timing{}, error{}));
  CHECK(all_hold(2, encode_rank, rows_returned{}, grant_pixels{}, ack{}, timing{}, error{}));
  CHECK(none_holds(2, prefill_worker, grant_rows{}, arrived{}, kv_sent{}, rows_quiet{}, blocks_returned{}));
  CHECK(none_holds(3, decode_rank, tokens{}, grant_blocks{}));
  CHECK(all_hold(1, front_rank, cancel{}, release{}, pixels_returned{}));
}
