#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_rma.h>

#include "protocols/fault.hpp"

namespace troupe::fabric {

template <class Object>
struct fabric_closer {
  void operator()(Object* object) const noexcept { ::fi_close(&object->fid); }
};
template <class Object>
using fabric_handle = std::unique_ptr<Object, fabric_closer<Object>>;

/// Memory that the provider knows, under a key that it or we chose.
struct fabric_registration {
  fabric_handle<fid_mr> handle;
  std::uint64_t base = 0; ///< what a peer adds its offset to; 0 where the provider addresses by offset
  std::uint64_t key = 0;
  void* descriptor() const noexcept { return ::fi_mr_desc(handle.get()); }
};

/// One libfabric endpoint for one-sided writes and everything below it, opened, checked and closed in order.
/// Completions mean delivery (FI_DELIVERY_COMPLETE): without it, tcp;ofi_rxm reports success for writes that are lost.
/// Supports providers that address by offset or by virtual address (FI_MR_VIRT_ADDR), with our keys or theirs
/// (FI_MR_PROV_KEY), and needs 64 bits of remote completion data of them.
/// Ownership: registrations are closed by whoever holds them, after `close_endpoint` and before the session.
/// Threads: one at a time (FI_THREAD_DOMAIN).
class fabric_session {
public:
  /// Errors: config_invalid, with the providers and interfaces that there are.
  /// Sets the environment variable FI_TCP_IFACE to `interface` before libfabric is first asked, since libfabric
  /// reads it only then and listens on any other interface otherwise: `open` before threads that read the environment.
  static protocols::result<std::unique_ptr<fabric_session>> open(const std::string& provider,
                                                                 const std::string& interface);

  const fi_info& info() const noexcept { return *info_; }
  /// The endpoint's name for peers. Errors: transfer_failed.
  protocols::result<std::vector<std::byte>> address() const;
  /// Errors: transfer_failed.
  protocols::result<fabric_registration> register_memory(std::span<std::byte> bytes);
  protocols::result<fi_addr_t> insert(std::span<const std::byte> peer);

  struct write {
    const std::byte* from = nullptr;
    std::size_t bytes = 0;
    void* descriptor = nullptr;
    fi_addr_t to = FI_ADDR_UNSPEC;
    std::uint64_t remote_address = 0;
    std::uint64_t key = 0;
    fi_context2* context = nullptr;                 ///< libfabric's until the completion
    const std::uint64_t* completion_data = nullptr; ///< none: the target is told nothing
  };
  /// 0, or -FI_EAGAIN (progress, then again), or another negative error.
  ssize_t post(const write& wanted) noexcept;

  /// One completion: of an own write (`context`) or of a peer's (`landed`).
  struct completion {
    void* context = nullptr;
    bool landed = false;
    std::uint64_t data = 0;
    int error = 0; ///< of errno.h, 0: delivered
    std::string what;
  };
  /// Makes progress; false: there was no completion. Errors: transfer_failed (the queue itself is broken).
  protocols::result<bool> poll(completion& into);

  /// Whether libfabric lets us sleep on `wait_file` now.
  bool may_sleep() noexcept;
  int wait_file() const noexcept { return wait_file_; }

  /// Takes everything in flight back from libfabric; its contexts and buffers are ours again.
  void close_endpoint() noexcept { endpoint_.reset(); }

private:
  struct info_closer {
    void operator()(fi_info* info) const noexcept { ::fi_freeinfo(info); }
  };
  using info_handle = std::unique_ptr<fi_info, info_closer>;

  explicit fabric_session(info_handle info) noexcept : info_(std::move(info)) {}
  static info_handle hints(const std::string& provider, const std::string& interface);
  static std::string what_there_is();
  protocols::result<void> open_all();

  info_handle info_; // destroyed last: closed in the reverse of the order of opening
  fabric_handle<fid_fabric> fabric_;
  fabric_handle<fid_domain> domain_;
  fabric_handle<fid_av> addresses_;
  fabric_handle<fid_cq> completions_;
  fabric_handle<fid_ep> endpoint_;
  int wait_file_ = -1;
};

} // namespace troupe::fabric
