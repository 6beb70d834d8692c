#include "gpu/cuda/numerics.hpp"

#include <cublasLt.h>
#include <nccl.h>

namespace troupe::gpu::cuda {

std::string describe_numerics(const device& on) {
  cudaDeviceProp facts{};
  int driver = 0;
  int collectives = 0;
  // What cannot be told stays zero, on every rank alike.
  (void)cudaGetDeviceProperties(&facts, on.number);
  (void)cudaDriverGetVersion(&driver); // likewise
  (void)ncclGetVersion(&collectives);  // likewise
  return std::string{facts.name} + ", driver " + std::to_string(driver) + ", runtime " +
         std::to_string(CUDART_VERSION) + ", cuBLASLt " + std::to_string(cublasLtGetVersion()) + ", NCCL " +
         std::to_string(collectives);
}

} // namespace troupe::gpu::cuda
