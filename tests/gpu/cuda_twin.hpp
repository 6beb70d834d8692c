#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "gpu/cpu/cpu_operations.hpp"
#include "tests/gpu/cuda_support.hpp"

/// Tensors on the CPU and on a GPU with the same numbers, and their comparison: the CPU's operations are the oracle.
namespace troupe::tests {

using gpu::element_kind;
using gpu::tensor_view;

struct device_pair {
  std::shared_ptr<const gpu::operations> cpu = gpu::cpu::make_operations();
  std::shared_ptr<const gpu::operations> cuda = cuda_or_skip();
  std::unique_ptr<gpu::stream> on_cpu = cpu->make_stream();
  std::unique_ptr<gpu::stream> on_cuda = cuda ? cuda->make_stream() : nullptr;

  explicit operator bool() const noexcept { return cuda != nullptr; }
};

/// The same numbers on both devices.
class twin {
  const device_pair& on_;
  std::unique_ptr<gpu::buffer> cpu_memory_, cuda_memory_;

public:
  tensor_view cpu, cuda;

  twin(const device_pair& on, element_kind element, std::initializer_list<std::int64_t> shape,
       const std::function<double()>& draw)
      : on_(on), cpu_memory_(allocate(*on.cpu, element, shape)), cuda_memory_(allocate(*on.cuda, element, shape)),
        cpu{cpu_memory_->data(), element, gpu::device_kind::cpu, shape}, cuda{cuda_memory_->data(), element,
                                                                              gpu::device_kind::cuda, shape} {
    for (std::int64_t i = 0; i < cpu.elements(); ++i)
      switch (element) {
      case element_kind::f32:
        cpu.f32()[i] = static_cast<float>(draw());
        break;
      case element_kind::bf16:
        cpu.bf16()[i] = gpu::narrow(static_cast<float>(draw()));
        break;
      case element_kind::i32:
        cpu.i32()[i] = static_cast<std::int32_t>(draw());
        break;
      }
    on.cuda->upload(*on.on_cuda, {cpu_memory_->data(), cpu.bytes()}, cuda);
  }

  /// Norm of the difference of all elements over the norm of the CPU's.
  double error() const {
    std::vector<std::byte> bytes(cuda.bytes());
    on_.cuda->download(*on_.on_cuda, cuda, bytes);
    if (auto done = on_.on_cuda->synchronize(); !done)
      FAIL(protocols::to_string(done.error()));
    double difference = 0.0;
    double norm = 0.0;
    for (std::int64_t i = 0; i < cpu.elements(); ++i) {
      const double expected = number(cpu_memory_->data(), i);
      difference += std::pow(number(bytes.data(), i) - expected, 2);
      norm += expected * expected;
    }
    return std::sqrt(difference / std::max(norm, 1e-30));
  }
  /// What rounding may do: sums in another order in f32, an own rounding of each result in bf16.
  double tolerance() const { return cpu.element() == element_kind::bf16 ? 4e-3 : 1e-5; }

private:
  static std::unique_ptr<gpu::buffer> allocate(const gpu::operations& from, element_kind element,
                                               std::initializer_list<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t each : shape)
      count *= each;
    auto memory = from.allocate(static_cast<std::size_t>(count) * gpu::bytes_of(element));
    if (!memory)
      FAIL(protocols::to_string(memory.error()));
    return *std::move(memory);
  }
  double number(const std::byte* data, std::int64_t i) const {
    if (cpu.element() == element_kind::bf16)
      return gpu::widen(reinterpret_cast<const gpu::bfloat16*>(data)[i]);
    return reinterpret_cast<const float*>(data)[i];
  }
};

/// Draws of one seed.
struct draws {
  unsigned seed;
  std::mt19937 from{seed};
  std::function<double()> uniform(double low = -2.0, double high = 2.0) {
    return [this, low, high] { return std::uniform_real_distribution<double>{low, high}(from); };
  }
  std::function<double()> below(std::int64_t end) {
    return [this, end] { return static_cast<double>(std::uniform_int_distribution<std::int64_t>{0, end - 1}(from)); };
  }
};

inline std::function<double()> each_of(const std::vector<std::int32_t>& values) {
  return [&values, next = std::size_t{0}]() mutable { return static_cast<double>(values[next++]); };
}

inline constexpr element_kind kinds[]{element_kind::f32, element_kind::bf16};
inline const char* name(element_kind kind) {
  return kind == element_kind::bf16 ? "bf16" : "f32";
}

/// Calls `body` with several seeds; a failure names its own.
inline void over_seeds(const std::function<void(draws&)>& body) {
  for (const unsigned seed : {1U, 2U}) {
    CAPTURE(seed);
    draws from{seed};
    body(from);
  }
}

} // namespace troupe::tests
