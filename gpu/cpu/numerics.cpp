#include "gpu/cpu/numerics.hpp"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include "gpu/cpu/kernels.hpp"

namespace troupe::gpu::cpu {

namespace {

/// A word for the sets that this version of the library names.
std::string matrix_isa() {
  const dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  switch (isa) {
  case dnnl_cpu_isa_all:
    return "any";
  case dnnl_cpu_isa_sse41:
    return "sse41";
  case dnnl_cpu_isa_avx:
    return "avx";
  case dnnl_cpu_isa_avx2:
    return "avx2";
  case dnnl_cpu_isa_avx2_vnni:
    return "avx2_vnni";
  case dnnl_cpu_isa_avx512_mic:
    return "avx512_mic";
  case dnnl_cpu_isa_avx512_mic_4ops:
    return "avx512_mic_4ops";
  case dnnl_cpu_isa_avx512_core:
    return "avx512_core";
  case dnnl_cpu_isa_avx512_core_vnni:
    return "avx512_core_vnni";
  case dnnl_cpu_isa_avx512_core_bf16:
    return "avx512_core_bf16";
  case dnnl_cpu_isa_avx512_core_amx:
    return "avx512_core_amx";
  }
  return "isa " + std::to_string(static_cast<unsigned>(isa));
}

} // namespace

std::string describe_numerics() {
  const auto* const library = dnnl_version();
  return fmt::format("loops {}, products {} of oneDNN {}.{}.{}", best_kernels().name, matrix_isa(), library->major,
                     library->minor, library->patch);
}

} // namespace troupe::gpu::cpu
