#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "fabric/transfers/device_memory.hpp"
#include "protocols/fault.hpp"

/// A device of the host's memory, whose copies end when a test wants them to.
namespace troupe::fabric::testing {

using protocols::fail;
using protocols::fault;
using protocols::result;

/// A point that the test lets the pretended device reach.
struct pretended_event final : device_event {
  std::atomic<bool> passed = false;
};

/// Memory that plays a device's: a handle is its address, which holds within one process, and a copy is carried out
/// when its end is asked for the second time behind the event that it waits for; until then there is no other.
class pretended_memory final : public device_memory {
public:
  std::atomic<bool> breaks = false;          ///< copies fail when they are asked for
  device_reach reach = device_reach::direct; ///< of what is opened
  std::optional<device_reach> copied_by;     ///< the newest copy
  std::atomic<int> begun = 0;                ///< copies
  std::size_t pinnable = 4096;               ///< bytes of the host

  result<std::unique_ptr<device_region>> make(std::size_t bytes) override {
    auto made = std::make_unique<region>();
    made->owned.resize(bytes);
    made->view = made->owned;
    const auto* const data = made->owned.data();
    std::memcpy(made->name.data(), &data, sizeof data);
    return made;
  }
  result<std::unique_ptr<device_region>> open(const device_handle& of, std::size_t bytes) override {
    auto opened = std::make_unique<region>();
    std::byte* data = nullptr;
    std::memcpy(&data, of.data(), sizeof data);
    opened->view = {data, bytes};
    opened->name = of;
    opened->how = reach;
    return opened;
  }
  result<std::shared_ptr<const void>> pin(std::span<std::byte> of_host) override {
    if (of_host.size() > pinnable)
      return fail(fault::no_memory, "pages of the host");
    return std::make_shared<int>();
  }
  std::unique_ptr<device_copies> make_copies() override { return std::make_unique<copies>(*this); }
  result<room> left() override { return room{}; }

private:
  struct region final : device_region {
    std::vector<std::byte> owned;
    std::span<std::byte> view;
    device_handle name{};
    device_reach how = device_reach::direct;

    std::span<std::byte> bytes() const noexcept override { return view; }
    const device_handle& handle() const noexcept override { return name; }
    device_reach reach() const noexcept override { return how; }
  };

  struct copies final : device_copies {
    explicit copies(pretended_memory& memory) : of(memory) {}

    result<void> begin(std::span<const write_piece> what, const std::byte* source, std::byte* target, device_reach way,
                       const device_event* after) override {
      if (under_way && !finished().value_or(false))
        return fail(fault::executor_failed, "the copy before has not ended");
      of.copied_by = way;
      ++of.begun;
      behind = static_cast<const pretended_event*>(after);
      pieces.assign(what.begin(), what.end());
      from = source;
      to = target;
      asked = 0;
      under_way = true;
      return {};
    }
    result<bool> finished() override {
      if (of.breaks) {
        under_way = false;
        return fail(fault::executor_failed, "the device is gone");
      }
      if ((behind != nullptr && !behind->passed) || ++asked < 2)
        return false;
      for (const auto& piece : pieces)
        std::memcpy(to + piece.target_offset, from + piece.source_offset, piece.bytes);
      under_way = false;
      return true;
    }

    pretended_memory& of;
    std::vector<write_piece> pieces;
    const std::byte* from = nullptr;
    std::byte* to = nullptr;
    const pretended_event* behind = nullptr;
    int asked = 0;
    bool under_way = false;
  };
};

} // namespace troupe::fabric::testing
