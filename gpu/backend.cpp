#include "gpu/backend.hpp"

#include <charconv>

#include "gpu/counted_operations.hpp"
#include "runtime/base/plugin.hpp"

namespace troupe::gpu {

using protocols::fail;
using protocols::fault;
using protocols::result;

result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads) {
  const std::string kind = device.substr(0, device.find(':'));
  device_request wanted{.threads = threads};
  if (kind != device) {
    const char* const end = device.data() + device.size();
    const auto [read, error] = std::from_chars(device.data() + kind.size() + 1, end, wanted.number);
    if (error != std::errc{} || read != end)
      return fail(fault::config_invalid, "device " + device + "; valid here: cpu, cuda, cuda:0, cuda:1 and so on");
  }
  const auto found = base::plugin_symbol(kind, make_operations_symbol);
  if (!found)
    return tl::unexpected(found.error());
  result<std::shared_ptr<const operations>> made;
  reinterpret_cast<make_operations_function*> (*found)(wanted, made);
  if (!made)
    return made;
  return count_operations(*std::move(made));
}

} // namespace troupe::gpu
