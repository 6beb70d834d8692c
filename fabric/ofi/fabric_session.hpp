#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_rma.h>

#include "fabric/ofi/port_filter.hpp"
#include "fabric/socket_address.hpp"
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

/// A connection to or from one peer. Closing it gives back all that libfabric holds of it; their completions follow.
using fabric_connection = fabric_handle<fid_ep>;

/// libfabric's objects for one-sided writes over connections, opened, checked and closed in order.
/// Connected endpoints (FI_EP_MSG) and not ofi_rxm's connectionless ones: those accept whoever connects, believe the
/// completion data of frames that name no key, and hold unexpected messages for good (all seen with 1.17). A connected
/// endpoint exists only for a peer that was accepted here, and a message that nobody waits for rests in its socket.
/// Completions mean delivery (FI_DELIVERY_COMPLETE): without it, writes that are lost may be reported as successes.
/// Supports providers that address by offset or by virtual address (FI_MR_VIRT_ADDR), with our keys or theirs
/// (FI_MR_PROV_KEY), and needs 64 bits of remote completion data of them.
/// Contract: K5.
/// Ownership: connections and registrations are closed by whoever holds them, in this order and before the session.
/// Threads: one at a time (FI_THREAD_DOMAIN).
class fabric_session {
public:
  /// Errors: config_invalid, with the providers and interfaces that there are.
  /// Sets the environment variable FI_TCP_IFACE to `interface` before libfabric is first asked, since libfabric
  /// reads it only then and listens on any other interface otherwise: `open` before threads that read the environment.
  static protocols::result<std::unique_ptr<fabric_session>> open(const std::string& provider,
                                                                 const std::string& interface);

  const fi_info& info() const noexcept { return *info_; }
  /// Of the interface, with the port where libfabric listens.
  const socket_address& address() const noexcept { return address_; }
  /// Errors: transfer_failed.
  protocols::result<fabric_registration> register_memory(std::span<std::byte> bytes);

  // ---- connections ----

  /// Who may connect to `address` from now on; nobody before the first call. Errors: transfer_failed.
  protocols::result<void> admit(std::span<const socket_address> sources) const;
  /// Bound to `from`; `connected` or `closed` follows. Errors: transfer_failed, no_memory.
  protocols::result<fabric_connection> connect(const socket_address& from, const socket_address& to,
                                               std::span<const std::byte> says);

  struct info_closer {
    void operator()(fi_info* info) const noexcept { ::fi_freeinfo(info); }
  };
  using info_handle = std::unique_ptr<fi_info, info_closer>;

  /// What happened to connections. Who asks for one is to be accepted or rejected.
  struct event {
    enum class kind { asked, connected, closed } what{};
    const fid* of = nullptr; ///< the connection, unless asked
    info_handle request;     ///< of who asks
    std::vector<std::byte> says;
    std::string why; ///< closed
  };
  /// Nothing: there was none.
  std::optional<event> next_event();
  /// Errors: transfer_failed; the request is rejected then.
  protocols::result<fabric_connection> accept(const event& asked);
  void reject(const event& asked) noexcept;

  struct write {
    const std::byte* from = nullptr;
    std::size_t bytes = 0;
    void* descriptor = nullptr;
    fid_ep* over = nullptr;
    std::uint64_t remote_address = 0;
    std::uint64_t key = 0;
    fi_context2* context = nullptr;                 ///< libfabric's until the completion
    const std::uint64_t* completion_data = nullptr; ///< none: the target is told nothing
  };
  /// 0, or -FI_EAGAIN (progress, then again), or another negative error.
  ssize_t post(const write& wanted) noexcept;

  /// One completion: of an own write (`context`) or of a peer's (`arrived`).
  struct completion {
    void* context = nullptr;
    bool arrived = false;
    std::uint64_t data = 0;
    int error = 0; ///< of errno.h, 0: delivered
    std::string what;
  };
  /// Makes progress; false: there was no completion. Errors: transfer_failed (the queue itself is broken).
  protocols::result<bool> poll(completion& into);

  /// Whether libfabric lets us sleep on `wait_file` now.
  bool may_sleep() noexcept;
  int wait_file() const noexcept { return wait_file_; }

private:
  explicit fabric_session(info_handle info) noexcept : info_(std::move(info)) {}
  static info_handle hints(const std::string& provider, const std::string& interface);
  static std::string what_there_is();
  protocols::result<void> open_all();
  protocols::result<void> listen();
  protocols::result<fabric_connection> open_connection(fi_info& info);
  std::optional<event> failed_event();

  info_handle info_; // destroyed last: closed in the reverse of the order of opening
  fabric_handle<fid_fabric> fabric_;
  fabric_handle<fid_eq> events_;
  fabric_handle<fid_pep> listening_;
  fabric_handle<fid_domain> domain_;
  fabric_handle<fid_cq> completions_;
  socket_address address_;
  std::optional<port_filter> filter_; ///< none: the provider's port is none of the kernel's TCP
  int wait_file_ = -1;
};

} // namespace troupe::fabric
