#pragma once

#include <optional>
#include <vector>

#include "protocols/drill/injection.hpp"

namespace troupe::protocols {

/// Which rules of a rank strike now: counts what passes each and what was struck.
/// Several rules may wait at one place; the first added that is due strikes, and the others count on.
/// Contract: J5. Threads: the owner's; a rank keeps it under a mutex, which costs nothing where drills are off.
class injection_machine {
public:
  /// Errors: those of `validate_rule`; queue_full beyond limits::injection_rules_max.
  result<void> add(injection_rule rule);

  /// What the thread that comes by is to suffer or to do: process actions and deliveries.
  std::optional<injection_rule> on_point(std::string_view point);

  struct frame_place {
    rank_id peer;
    std::uint8_t channel = 0;
    std::uint16_t message = 0; ///< 0: asked for the edge as a whole
    bool outgoing = true;
  };
  std::optional<injection_rule> on_frame(const frame_place& at);

  enum class write_moment { posted, delivered, arrived };
  std::optional<injection_rule> on_write(rank_id peer, write_moment when);

  /// Rules without a point that are not struck by anything that passes: process actions and deliveries, once.
  std::optional<injection_rule> take_immediate();

private:
  struct waiting_rule {
    injection_rule rule;
    bool counts = true; ///< false: its point has not been hit yet
    std::uint32_t passed = 0;
    std::uint32_t struck = 0;
  };
  static bool is_due(waiting_rule& one) noexcept;

  std::vector<waiting_rule> rules_;
};

} // namespace troupe::protocols
