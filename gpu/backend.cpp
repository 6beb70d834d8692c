#include "gpu/backend.hpp"

#include <charconv>

#include "gpu/observed_operations.hpp"
#include "runtime/base/flight_recorder.hpp"
#include "runtime/base/plugin.hpp"

namespace troupe::gpu {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

struct named_device {
  std::string kind;
  unsigned number = 0;
};
result<named_device> read_device(const std::string& text) {
  named_device read{.kind = text.substr(0, text.find(':'))};
  if (read.kind == text)
    return read;
  const char* const end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data() + read.kind.size() + 1, end, read.number);
  if (error != std::errc{} || last != end)
    return fail(fault::config_invalid, "device " + text + "; valid here: cpu, cuda, cuda:0, cuda:1 and so on");
  return read;
}

template <class Function>
result<Function*> symbol(const std::string& kind, const char* name) {
  return base::plugin_symbol(kind, name).map([](void* found) { return reinterpret_cast<Function*>(found); });
}

} // namespace

result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads) {
  const auto wanted = read_device(device);
  if (!wanted)
    return tl::unexpected(wanted.error());
  const auto make = symbol<make_operations_function>(wanted->kind, make_operations_symbol);
  if (!make)
    return tl::unexpected(make.error());
  result<std::shared_ptr<const operations>> made;
  (**make)({.number = wanted->number, .threads = threads}, made);
  if (!made)
    return made;
  // Each counts as progress of its thread: a watchdog that saw none during a long forward would take a rank that
  // computes for one that is wedged (C4).
  return observe_operations(*std::move(made), [](stream&, const char*, const tensor_view&) { base::flight().tick(); });
}

result<unsigned> count_devices(const std::string& kind) {
  return symbol<count_devices_function>(kind, count_devices_symbol).map([](auto* count) { return count(); });
}

result<std::unique_ptr<device_collectives>> join_collectives(const std::string& device, const group_member& seat) {
  const auto wanted = read_device(device);
  if (!wanted)
    return tl::unexpected(wanted.error());
  const auto join = symbol<join_collectives_function>(wanted->kind, join_collectives_symbol);
  if (!join)
    return tl::unexpected(join.error());
  result<std::unique_ptr<device_collectives>> made;
  (**join)({.number = wanted->number}, seat, made);
  return made;
}

result<void> strike_device(const std::string& device, const device_fault& what) {
  const auto wanted = read_device(device);
  if (!wanted)
    return tl::unexpected(wanted.error());
  const auto strike = symbol<strike_device_function>(wanted->kind, strike_device_symbol);
  if (!strike)
    return tl::unexpected(strike.error());
  result<void> struck;
  (**strike)({.number = wanted->number}, what, struck);
  return struck;
}

result<std::shared_ptr<fabric::device_memory>> open_device_memory(const std::string& device) {
  const auto wanted = read_device(device);
  if (!wanted)
    return tl::unexpected(wanted.error());
  if (wanted->kind == "cpu")
    return nullptr;
  const auto make = symbol<make_device_memory_function>(wanted->kind, make_device_memory_symbol);
  if (!make)
    return tl::unexpected(make.error());
  result<std::shared_ptr<fabric::device_memory>> made;
  (**make)({.number = wanted->number}, made);
  return made;
}

result<std::string> numerics_of(const std::string& device) {
  const auto wanted = read_device(device);
  if (!wanted)
    return tl::unexpected(wanted.error());
  const auto describe = symbol<describe_numerics_function>(wanted->kind, describe_numerics_symbol);
  if (!describe)
    return tl::unexpected(describe.error());
  std::string line;
  (**describe)({.number = wanted->number}, line);
  return line;
}

} // namespace troupe::gpu
