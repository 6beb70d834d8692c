#include "runtime/cluster/environment_fact.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

namespace troupe::cluster {

namespace {

constexpr std::array<std::string_view, 10> families{"NCCL_", "CUBLAS_", "CUDNN_",  "NVIDIA_TF32_", "OMP_",
                                                    "GOMP_", "KMP_",    "ONEDNN_", "DNNL_",        "MKL_"};
constexpr std::array<std::string_view, 2> singles{"CUDA_LAUNCH_BLOCKING", "GLIBC_TUNABLES"};
/// Reached by another network interface or card on each host.
constexpr std::array<std::string_view, 2> of_a_host{"NCCL_SOCKET_IFNAME", "NCCL_IB_HCA"};

bool matters(std::string_view name) {
  return std::ranges::find(of_a_host, name) == of_a_host.end() &&
         (std::ranges::any_of(families, [&](std::string_view family) { return name.starts_with(family); }) ||
          std::ranges::find(singles, name) != singles.end());
}

} // namespace

protocols::parity_fact environment_fact(const char* const* variables) {
  std::vector<std::string_view> lines;
  for (; *variables != nullptr; ++variables) {
    const std::string_view line = *variables;
    if (matters(line.substr(0, line.find('='))))
      lines.push_back(line);
  }
  std::ranges::sort(lines);
  protocols::parity_fact fact{.key = "environment", .value = {}};
  for (const auto line : lines)
    fact.value.append(line).append("\n");
  return fact;
}

} // namespace troupe::cluster
