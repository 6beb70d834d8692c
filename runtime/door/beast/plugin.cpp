#include "runtime/door/plugin.hpp"

#include "runtime/base/plugin.hpp"
#include "runtime/door/beast/listener.hpp"

TROUPE_PLUGIN

extern "C" __attribute__((visibility("default"))) void
troupe_make_door(troupe::door::options wanted, troupe::protocols::result<std::unique_ptr<troupe::door::door>>& made) {
  made = troupe::door::listener::open(std::move(wanted));
}
