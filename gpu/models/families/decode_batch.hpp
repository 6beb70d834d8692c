#pragma once

#include <array>
#include <memory>
#include <vector>

#include "gpu/models/families/text_decoder.hpp"
#include "gpu/models/scratch.hpp"

namespace troupe::gpu::models {

/// A text_decoder's running batch.
/// Sequences lie in the first rows of the device's tables, so that a step is as large as the batch; whoever leaves has
/// the last row put in his place, which is why a place is not a row. Steps have a few sizes (powers of two where they
/// are captured): the rows that a size has too many are nobody's, write nowhere and are not told of.
/// What changes with every step is the device's alone: the host keeps its own count of it, and writes to the device
/// only when the batch changes.
/// Threads: the executor's.
class decode_batch final : public running_batch {
public:
  static protocols::result<std::unique_ptr<running_batch>> open(text_decoder& with, const batch_options& how,
                                                                group* mesh);
  static std::uint32_t opening_collectives(const text_decoder& with, const batch_options& how) noexcept;

  protocols::result<std::uint32_t> join(const joining& who) override;
  protocols::result<void> leave(std::uint32_t place) override;
  std::uint32_t size() const noexcept override { return size_; }
  capture_counts captures() const noexcept override;
  std::uint32_t collectives() const noexcept override { return captures_ ? 0 : with_.mesh_collectives(true); }
  protocols::result<void> step(group* mesh) override;
  protocols::result<std::span<const chosen>> collect(protocols::time_point deadline) override;

  /// The operations of one step of the first `rows` rows, as they are captured, and the stream that they go to: for
  /// whoever would compare a step with them alone.
  protocols::result<void> run(std::uint32_t rows, group* mesh);
  stream& on() noexcept { return *with_.stream_; }

private:
  using workspace = text_decoder::workspace;

  /// Of each row, as the host writes them to the device: one i32 row a field.
  enum field : std::uint8_t {
    context,
    capacity,
    shift,
    answered,
    temperature,
    top_p,
    seed_low,
    seed_high,
    rule_place, ///< place of a sequence that has rules, -1 of others
    fields
  };

  /// A step that is on its way.
  struct flight {
    std::unique_ptr<stream_event> ended;
    std::vector<std::uint32_t> places; ///< of its rows
    std::vector<std::uint32_t> told;   ///< log-probabilities that each of them is told
  };

  decode_batch(text_decoder& with, const batch_options& how);
  static bool captures(const text_decoder& with, const batch_options& how) noexcept;

  protocols::result<void> allocate();
  protocols::result<void> warm_up(group* mesh);
  protocols::result<void> validate(const joining& who) const;
  /// The number of rows that a step of `rows` runs with.
  std::uint32_t size_of_step(std::uint32_t rows) const noexcept;
  workspace first_rows(std::uint32_t rows) const;
  batch_rows table_of(std::uint32_t rows) const;
  void write_blocks(std::uint32_t row);
  void write_rules(std::uint32_t place, const joining& who);

  std::int32_t& at(field which, std::uint32_t row) { return table_[which * rows_max_ + row]; }

  text_decoder& with_;
  std::uint32_t rows_max_;
  std::uint32_t blocks_most_; ///< of a row
  bool captures_;

  // On the device.
  scratch room_;
  workspace space_; ///< of rows_max_ rows
  tensor_view fields_, ids_, blocks_, chosen_, turn_, frequencies_;
  row_rules rules_; ///< all but `place`; `told` is read by the host too
  std::unique_ptr<buffer> told_memory_, told_rules_memory_;
  tensor_view told_;                                  ///< [steps_ahead_max, rows_max], read by the host too
  std::vector<std::unique_ptr<captured_work>> steps_; ///< by size, where they are captured

  // The host's.
  std::uint32_t size_ = 0;
  std::vector<std::int32_t> table_;         ///< [fields, rows_max] as it stands once all steps have ended
  std::vector<std::int32_t> block_table_;   ///< [rows_max, blocks_most]
  std::vector<std::uint32_t> place_of_row_; ///< of the first `size_`
  std::vector<std::uint32_t> row_of_place_; ///< rows_max_ where nobody is
  std::vector<std::uint32_t> told_of_place_;
  std::vector<std::int32_t> record_, marks_; ///< of a sequence with rules that joins
  std::uint32_t eager_ = 0;                  ///< steps
  bool changed_ = false;                     ///< table_ is to be written
  std::array<flight, steps_ahead_max> flights_;
  std::uint64_t begun_ = 0;     ///< steps
  std::uint64_t collected_ = 0; ///< steps
  std::vector<chosen> tokens_;
  std::vector<protocols::token_logprob> logprobs_; ///< of these
};

} // namespace troupe::gpu::models
