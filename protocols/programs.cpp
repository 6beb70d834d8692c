#include "protocols/programs.hpp"

#include <array>
#include <vector>

#include "protocols/serve/serve_program.hpp"

namespace troupe::protocols {

std::span<const program* const> built_in_programs() noexcept {
  static const std::array<const program*, 1> all{&serve_program()};
  return all;
}

std::span<const std::span<const message_row>> built_in_messages() noexcept {
  static const auto all = [] {
    std::vector<std::span<const message_row>> rows;
    for (const auto* const each : built_in_programs())
      rows.push_back(each->messages);
    return rows;
  }();
  return all;
}

} // namespace troupe::protocols
