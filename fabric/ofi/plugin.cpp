#include "fabric/ofi/plugin.hpp"

#include "fabric/ofi/fabric_engine.hpp"
#include "runtime/base/plugin.hpp"

TROUPE_PLUGIN

extern "C" __attribute__((visibility("default"))) void
troupe_make_ofi_engine(troupe::fabric::fabric_options options,
                       troupe::protocols::result<std::unique_ptr<troupe::fabric::transfer_engine>>& made) {
  made = troupe::fabric::fabric_engine::create(std::move(options));
}
