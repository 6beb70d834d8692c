#include "fabric/ofi/plugin.hpp"
#include "fabric/transfers/transfer.hpp"
#include "runtime/base/plugin.hpp"

namespace troupe::fabric {

protocols::result<std::unique_ptr<transfer_engine>> make_fabric_engine(fabric_options options) {
  const auto found = base::plugin_symbol("ofi", ofi::make_engine_symbol);
  if (!found)
    return tl::unexpected<protocols::failure>{found.error()};
  protocols::result<std::unique_ptr<transfer_engine>> made;
  reinterpret_cast<ofi::make_engine_function*> (*found)(std::move(options), made);
  return made;
}

} // namespace troupe::fabric
