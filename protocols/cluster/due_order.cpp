#include "protocols/cluster/due_order.hpp"

#include <algorithm>

namespace troupe::protocols {

void put_due_in_order(std::span<const std::size_t> owners, std::span<const std::size_t> woken, bool all,
                      std::vector<std::size_t>& due) {
  due.clear();
  const auto add = [&](std::size_t owner) {
    if (std::ranges::find(due, owner) == due.end())
      due.push_back(owner);
  };
  for (const auto place : woken)
    if (place == 0 || owners[place - 1] != owners[place])
      add(owners[place]);
  if (all)
    std::ranges::for_each(owners, add);
  for (const auto place : woken)
    add(owners[place]);
}

} // namespace troupe::protocols
