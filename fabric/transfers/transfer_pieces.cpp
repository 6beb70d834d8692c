#include "fabric/transfers/transfer_pieces.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// Large pieces are copied in chunks, so that `stop` and a peer's end are noticed within one of them.
constexpr std::uint64_t chunk_bytes = std::uint64_t{1} << 20;
/// What a small piece costs of a budget besides its bytes.
constexpr std::uint64_t piece_cost = 4096;

/// Written so that no sum can overflow: the numbers come from a peer.
bool inside(std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) {
  return offset <= size && bytes <= size - offset;
}

std::string place(const char* side, std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) {
  return std::string(side) + " [" + std::to_string(offset) + ", +" + std::to_string(bytes) + ") of " +
         std::to_string(size) + " bytes";
}

} // namespace

std::string of_rank(protocols::rank_id rank) {
  return "rank " + std::to_string(rank.value);
}

result<void> check_request(const write_request& request, std::uint64_t source_bytes, std::uint64_t target_bytes) {
  if ((request.completion_data & ~callers_bits) != 0)
    return fail(fault::bad_value,
                "completion data " + std::to_string(request.completion_data) + " needs more than 48 bits");
  for (std::size_t i = 0; i < request.pieces.size(); ++i) {
    const write_piece& piece = request.pieces[i];
    if (!inside(piece.source_offset, piece.bytes, source_bytes))
      return fail(fault::out_of_bounds, "piece " + std::to_string(i) + ": " +
                                            place("source", piece.source_offset, piece.bytes, source_bytes));
    if (!inside(piece.target_offset, piece.bytes, target_bytes))
      return fail(fault::out_of_bounds, "piece " + std::to_string(i) + ": " +
                                            place("target", piece.target_offset, piece.bytes, target_bytes));
  }
  return {};
}

piece_walk::step piece_walk::next(std::span<const write_piece> pieces, std::uint64_t bytes_max) noexcept {
  const auto pass_done = [&] {
    while (piece_ < pieces.size() && done_ == pieces[piece_].bytes) {
      ++piece_;
      done_ = 0;
    }
  };
  pass_done();
  if (piece_ == pieces.size())
    return {.last = true};
  const write_piece& piece = pieces[piece_];
  step given{.source_offset = piece.source_offset + done_,
             .target_offset = piece.target_offset + done_,
             .bytes = std::min(bytes_max, piece.bytes - done_)};
  done_ += given.bytes;
  pass_done();
  given.last = piece_ == pieces.size();
  return given;
}

bool copy_some(piece_walk& walk, std::span<const write_piece> pieces, const std::byte* source, std::byte* target,
               std::uint64_t& budget) noexcept {
  while (budget > 0) {
    const auto step = walk.next(pieces, chunk_bytes);
    std::memmove(target + step.target_offset, source + step.source_offset, step.bytes);
    budget -= std::min(budget, step.bytes + piece_cost);
    if (step.last)
      return true;
  }
  return false;
}

} // namespace troupe::fabric
