#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "fabric/transfers/transfer.hpp"

namespace troupe::fabric {

/// Completion data as it travels: the caller's low 48 bits, and who wrote in the high 16. A receiver of one-sided
/// writes has nothing else to tell writers apart by.
inline constexpr std::uint64_t callers_bits = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint32_t writer_rank_max = 0xffff;

constexpr std::uint64_t completion_word(protocols::rank_id writer, std::uint64_t callers) noexcept {
  return std::uint64_t{writer.value} << 48 | (callers & callers_bits);
}

/// "rank 3", for the particulars of a failure.
std::string of_rank(protocols::rank_id rank);

/// Whether every piece lies inside both regions; nothing may be written before this was asked.
/// Errors: out_of_bounds, with the piece and both sizes; bad_value, when the completion data uses the engine's bits.
protocols::result<void> check_request(const write_request& request, std::uint64_t source_bytes,
                                      std::uint64_t target_bytes);

/// Walks the pieces of one write in steps of bounded size; empty pieces are passed over.
class piece_walk {
public:
  struct step {
    std::uint64_t source_offset = 0;
    std::uint64_t target_offset = 0;
    std::uint64_t bytes = 0; ///< 0: nothing was left
    bool last = false;       ///< nothing follows
  };

  /// The next at most `bytes_max` contiguous bytes.
  step next(std::span<const write_piece> pieces, std::uint64_t bytes_max) noexcept;

private:
  std::size_t piece_ = 0;
  std::uint64_t done_ = 0; ///< bytes of `piece_`
};

/// Copies about `budget` bytes and lowers it by what it copied; true when the write is whole.
/// Memory may overlap (a write to this rank itself).
bool copy_some(piece_walk& walk, std::span<const write_piece> pieces, const std::byte* source, std::byte* target,
               std::uint64_t& budget) noexcept;

} // namespace troupe::fabric
