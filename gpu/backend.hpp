#pragma once

#include <memory>
#include <string>

#include "fabric/transfers/device_memory.hpp"
#include "gpu/device_collectives.hpp"
#include "gpu/operations.hpp"
#include "protocols/fault.hpp"

namespace troupe::gpu {

/// The operations of `device` ("cpu", "cuda" or "cuda:1"), from its plug-in. `threads`: of one matrix product, cpu
/// only. Errors: config_invalid, no such plug-in, one of another build, no such device or one that it is not built for.
protocols::result<std::shared_ptr<const operations>> open_operations(const std::string& device, unsigned threads);

/// How many devices of this kind the machine offers; no driver counts as none. Errors: config_invalid, no such plug-in.
protocols::result<unsigned> count_devices(const std::string& kind);

/// The memory of `device` as other processes of this host can be given it; null for "cpu", whose memory is the host's.
/// Errors: as for `open_operations`.
protocols::result<std::shared_ptr<fabric::device_memory>> open_device_memory(const std::string& device);

/// Exchanges between the members that joining takes, on every one of them.
inline constexpr std::uint32_t join_exchanges = 3;
/// Every member calls it, each with a device of its own, and settles what it gets before the first collective. Errors:
/// executor_failed; those of the exchanges.
protocols::result<std::unique_ptr<device_collectives>> join_collectives(const std::string& device,
                                                                        const group_member& seat);

/// What a drill makes a device suffer, in this process: a kernel that fills it and does not end before `longest`, or
/// one that fails, after which nothing works there any more.
struct device_fault {
  bool hangs = true;
  protocols::duration longest{};
};
/// Returns at once. Errors: as for `open_operations`; executor_failed.
protocols::result<void> strike_device(const std::string& device, const device_fault& what);

/// What the numbers of `device` depend on beside the program and the spec: instruction sets, versions of libraries; in
/// a line that ranks compare (B13). Errors: as `open_operations`; config_invalid when its plug-in states nothing.
protocols::result<std::string> numerics_of(const std::string& device);

/// What a plug-in is asked for.
struct device_request {
  unsigned number = 0; ///< among the machine's devices of this kind
  unsigned threads = 1;
};

// What every plug-in of a device offers.
inline constexpr const char* make_operations_symbol = "troupe_make_operations";
inline constexpr const char* describe_numerics_symbol = "troupe_describe_numerics";
using describe_numerics_function = void(const device_request& wanted, std::string& line);
using make_operations_function = void(const device_request& wanted,
                                      protocols::result<std::shared_ptr<const operations>>& made);
// What a plug-in of a device with memory of its own offers beside.
inline constexpr const char* count_devices_symbol = "troupe_count_devices";
using count_devices_function = unsigned();
inline constexpr const char* make_device_memory_symbol = "troupe_make_device_memory";
using make_device_memory_function = void(const device_request& wanted,
                                         protocols::result<std::shared_ptr<fabric::device_memory>>& made);
inline constexpr const char* strike_device_symbol = "troupe_strike_device";
using strike_device_function = void(const device_request& wanted, const device_fault& what,
                                    protocols::result<void>& struck);
inline constexpr const char* join_collectives_symbol = "troupe_join_collectives";
using join_collectives_function = void(const device_request& wanted, const group_member& seat,
                                       protocols::result<std::unique_ptr<device_collectives>>& made);

} // namespace troupe::gpu
