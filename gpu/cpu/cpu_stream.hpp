#pragma once

#include <span>
#include <vector>

#include "gpu/stream.hpp"

namespace troupe::gpu::cpu {

/// The thread itself, with the scratch memory that operations on it use; it grows to the largest need and stays.
/// What is put on it has happened at once, so every event has come, and captured work is what was to be captured.
class cpu_stream final : public stream {
public:
  explicit cpu_stream(bool captures = false) : captures_(captures) {}

  void mark(const char*, std::uint32_t) override {}

  std::unique_ptr<stream_event> make_event() override { return std::make_unique<event>(); }
  void record(stream_event&) override {}

  bool gains_by_capture() const noexcept override { return captures_; }
  protocols::result<std::unique_ptr<captured_work>> capture(work what) override {
    return std::make_unique<kept>(std::move(what));
  }
  protocols::result<void> launch(captured_work& what) override { return static_cast<kept&>(what).run(); }

  std::span<float> scratch(std::size_t floats) {
    if (scratch_.size() < floats)
      scratch_.resize(floats);
    return std::span{scratch_}.first(floats);
  }

private:
  class event final : public stream_event {};

  protocols::result<bool> passed(const stream_event&) override { return true; }
  std::uint64_t marks_passed() const noexcept override { return 0; }
  protocols::failure late() const override { return {protocols::fault::timeout, "cpu"}; }
  const stream_event& record_end() override { return end_; }
  protocols::result<void> finish_downloads(protocols::result<void> ended) override { return ended; }

  struct kept final : captured_work {
    explicit kept(work what) : run(std::move(what)) {}
    work run;
  };

  event end_;
  bool captures_; ///< claims to gain by it
  std::vector<float> scratch_;
};

} // namespace troupe::gpu::cpu
