#include "gpu/cuda/device.hpp"

#include "gpu/wait_policy.hpp"

namespace troupe::gpu::cuda {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// What the kernels are compiled for (TroupeCuda.cmake): this machine code runs on no other.
constexpr int major_built = 9;
constexpr int minor_built = 0;

std::string version(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

} // namespace

std::string words_of(cudaError_t error, const char* call) {
  return std::string{call} + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error);
}

void device::use() const noexcept {
  thread_local int current = -1;
  if (current == number)
    return;
  cudaSetDevice(number);
  current = number;
}

result<void> await_queue(const device& on, cudaStream_t queue, const char* call, protocols::time_point deadline) {
  on.use();
  const std::string name = "cuda:" + std::to_string(on.number);
  for (patient_wait waiting{deadline, wait_policy::backoff};;) {
    const cudaError_t state = cudaStreamQuery(queue);
    if (state == cudaSuccess)
      return {};
    if (state != cudaErrorNotReady)
      return fail(fault::executor_failed, name + " " + words_of(state, call));
    cudaGetLastError(); // it is no error
    if (!waiting.go_on())
      return fail(fault::timeout, name + " has not ended " + call);
  }
}

unsigned count_devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? static_cast<unsigned>(count) : 0;
}

result<device> open_device(unsigned number) {
  const std::string name = "device cuda:" + std::to_string(number);
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess)
    return fail(fault::config_invalid,
                name + ": no device, " + words_of(error, "cudaGetDeviceCount") + "; valid without one: cpu");
  if (number >= static_cast<unsigned>(count))
    return fail(fault::config_invalid, name + " is not there; valid here: cuda:0" +
                                           (count > 1 ? " to cuda:" + std::to_string(count - 1) : std::string{}));
  device opened{.number = static_cast<int>(number)};
  cudaDeviceProp facts{};
  if (const cudaError_t error = cudaGetDeviceProperties(&facts, opened.number); error != cudaSuccess)
    return fail(fault::config_invalid, name + ": " + words_of(error, "cudaGetDeviceProperties"));
  if (facts.major != major_built || facts.minor != minor_built)
    return fail(fault::config_invalid, name + ", " + facts.name + ", has compute capability " +
                                           version(facts.major, facts.minor) + "; this build is for " +
                                           version(major_built, minor_built));
  opened.multiprocessors = facts.multiProcessorCount;
  return opened;
}

} // namespace troupe::gpu::cuda
