#include "protocols/mesh/late_step.hpp"

#include <string>

namespace troupe::protocols {

late_step judge_late_step(const failure& seen, const group_plan& mesh, std::uint32_t awaited) {
  std::optional<rank_id> first;
  std::string names;
  for (std::size_t member = 0; member < mesh.members.size() && member < 32; ++member) {
    if ((awaited >> member & 1U) == 0)
      continue;
    const rank_id rank = mesh.members[member];
    first = first.value_or(rank);
    names += (names.empty() ? "" : ", ") + std::to_string(rank.value);
  }
  if (seen.code != fault::timeout || !first)
    return {seen, std::nullopt};
  return {{fault::peer_gone,
           "the GPU waits in a collective of group " + mesh.name + " for rank " + names + "; " + seen.what},
          first};
}

} // namespace troupe::protocols
