#include "gpu/backend.hpp"

#include "gpu/counted_operations.hpp"
#include "runtime/base/plugin.hpp"

namespace troupe::gpu {

protocols::result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads) {
  const auto found = base::plugin_symbol(device, make_operations_symbol);
  if (!found)
    return tl::unexpected<protocols::failure>{found.error()};
  std::shared_ptr<const operations> made;
  reinterpret_cast<make_operations_function*> (*found)(threads, made);
  return count_operations(std::move(made));
}

} // namespace troupe::gpu
