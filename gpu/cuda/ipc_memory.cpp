#include "gpu/cuda/ipc_memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "gpu/cuda/cuda_buffer.hpp"
#include "gpu/cuda/stream_copies.hpp"
#include "protocols/limits.hpp"
#include "runtime/base/clock.hpp"

namespace troupe::gpu::cuda {

using fabric::device_handle;
using fabric::device_region;
using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

/// What a handle holds.
struct named_memory {
  cudaIpcMemHandle_t memory{};
  cudaUUID_t owner{}; ///< the GPU that it lies on
};
static_assert(sizeof(named_memory) == sizeof(device_handle));

/// Of each GPU, by its number in this process.
result<std::vector<cudaUUID_t>> read_identities() {
  std::vector<cudaUUID_t> all(count_devices());
  for (std::size_t number = 0; number < all.size(); ++number) {
    cudaDeviceProp facts{};
    if (const auto error = cudaGetDeviceProperties(&facts, static_cast<int>(number)); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaGetDeviceProperties"));
    all[number] = facts.uuid;
  }
  return all;
}

/// NCCL's own word for a machine whose links are not to be used is heard here too.
bool reaches(const device& from, const device& to) {
  if (from.number == to.number)
    return true;
  const char* const barred = std::getenv("NCCL_P2P_DISABLE");
  int can = 0;
  return (barred == nullptr || std::string_view{barred} == "0") &&
         cudaDeviceCanAccessPeer(&can, from.number, to.number) == cudaSuccess && can != 0;
}

class made_region final : public device_region {
public:
  made_region(std::unique_ptr<cuda_buffer> memory, const device_handle& handle)
      : memory_(std::move(memory)), handle_(handle) {}

  std::span<std::byte> bytes() const noexcept override { return {memory_->data(), memory_->bytes()}; }
  const device_handle& handle() const noexcept override { return handle_; }

private:
  std::unique_ptr<cuda_buffer> memory_;
  device_handle handle_;
};

class opened_region final : public device_region {
public:
  opened_region(const device& on, void* data, std::size_t bytes, const device_handle& handle,
                fabric::device_reach reach)
      : device_(on), data_(static_cast<std::byte*>(data)), bytes_(bytes), handle_(handle), reach_(reach) {}
  ~opened_region() override {
    device_.use();
    cudaIpcCloseMemHandle(data_);
  }

  std::span<std::byte> bytes() const noexcept override { return {data_, bytes_}; }
  const device_handle& handle() const noexcept override { return handle_; }
  fabric::device_reach reach() const noexcept override { return reach_; }

private:
  device device_;
  std::byte* data_;
  std::size_t bytes_;
  device_handle handle_;
  fabric::device_reach reach_;
};

/// Pages that a GPU's copies and kernels find where the host does.
class pinned_pages {
public:
  pinned_pages(const device& on, void* data) noexcept : device_(on), data_(data) {}
  pinned_pages(const pinned_pages&) = delete;
  pinned_pages& operator=(const pinned_pages&) = delete;
  ~pinned_pages() {
    device_.use();
    cudaHostUnregister(data_);
  }

private:
  device device_;
  void* data_;
};

class ipc_memory final : public fabric::device_memory {
public:
  ipc_memory(const device& on, std::vector<cudaUUID_t> identities) : device_(on), identities_(std::move(identities)) {}

  result<std::unique_ptr<device_region>> make(std::size_t bytes) override {
    auto memory = cuda_buffer::make(device_, bytes);
    if (!memory)
      return tl::unexpected(memory.error());
    named_memory given{.memory = {}, .owner = identities_[static_cast<std::size_t>(device_.number)]};
    if (const auto error = cudaMemset((*memory)->data(), 0, bytes); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaMemset"));
    if (auto zeroed =
            await_queue(device_, cudaStreamLegacy, "cudaMemset", base::now() + protocols::limits::device_deadline);
        !zeroed)
      return tl::unexpected(zeroed.error());
    if (const auto error = cudaIpcGetMemHandle(&given.memory, (*memory)->data()); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaIpcGetMemHandle"));
    device_handle handle{};
    std::memcpy(handle.data(), &given, handle.size());
    return std::make_unique<made_region>(*std::move(memory), handle);
  }

  result<std::unique_ptr<device_region>> open(const device_handle& of, std::size_t bytes) override {
    named_memory given{};
    std::memcpy(&given, of.data(), of.size());
    const auto owner = find_device(given.owner);
    if (!owner)
      return tl::unexpected(owner.error());
    // What cannot be reached from here is opened on its own GPU: the driver can still copy there.
    const bool direct = reaches(device_, *owner);
    const device& on = direct ? device_ : *owner;
    on.use();
    void* data = nullptr;
    if (const auto error = cudaIpcOpenMemHandle(&data, given.memory, cudaIpcMemLazyEnablePeerAccess);
        error != cudaSuccess)
      return fail(fault::transfer_failed, words_of(error, "cudaIpcOpenMemHandle"));
    return std::make_unique<opened_region>(
        on, data, bytes, of, direct ? fabric::device_reach::direct : fabric::device_reach::by_way_of_host);
  }

  result<std::shared_ptr<const void>> pin(std::span<std::byte> of_host) override {
    device_.use();
    if (const auto error = cudaHostRegister(of_host.data(), of_host.size(), cudaHostRegisterMapped);
        error != cudaSuccess) {
      cudaGetLastError(); // it is answered here
      return fail(error == cudaErrorMemoryAllocation ? fault::no_memory : fault::executor_failed,
                  std::to_string(of_host.size()) + " bytes of the host: " + words_of(error, "cudaHostRegister"));
    }
    auto pages = std::make_shared<const pinned_pages>(device_, of_host.data());
    void* there = nullptr;
    if (const auto error = cudaHostGetDevicePointer(&there, of_host.data(), 0); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaHostGetDevicePointer"));
    if (there != of_host.data())
      return fail(fault::executor_failed, "pinned memory of the host has another address on this GPU");
    return pages;
  }

  result<room> left() override {
    device_.use();
    std::size_t unused = 0;
    std::size_t whole = 0;
    if (const auto error = cudaMemGetInfo(&unused, &whole); error != cudaSuccess)
      return fail(fault::executor_failed, words_of(error, "cudaMemGetInfo"));
    return room{unused, whole};
  }

  std::unique_ptr<fabric::device_copies> make_copies() override { return cuda::make_copies(device_); }

private:
  result<device> find_device(const cudaUUID_t& wanted) const {
    const auto found = std::ranges::find_if(
        identities_, [&](const cudaUUID_t& each) { return std::memcmp(&each, &wanted, sizeof wanted) == 0; });
    if (found == identities_.end())
      return fail(fault::transfer_failed, "a peer's memory lies on a GPU that this process does not see");
    return device{.number = static_cast<int>(found - identities_.begin())};
  }

  device device_;
  std::vector<cudaUUID_t> identities_; ///< by number; a driver takes its time to tell them
};

} // namespace

result<std::shared_ptr<fabric::device_memory>> make_ipc_memory(unsigned device_number) {
  const auto opened = open_device(device_number);
  if (!opened)
    return tl::unexpected(opened.error());
  auto identities = read_identities();
  if (!identities)
    return tl::unexpected(identities.error());
  return std::make_shared<ipc_memory>(*opened, *std::move(identities));
}

} // namespace troupe::gpu::cuda
