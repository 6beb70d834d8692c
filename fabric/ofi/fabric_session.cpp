#include "fabric/ofi/fabric_session.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>

#include "runtime/base/random.hpp"

namespace troupe::fabric {

using protocols::fail;
using protocols::fault;
using protocols::result;

namespace {

constexpr std::uint32_t api_version = FI_VERSION(1, 15);
constexpr std::size_t said_bytes_max = 256; ///< of who asks for a connection

/// The one form in which a call's error leaves this file.
tl::unexpected<protocols::failure> failed(fault code, const char* call, long error) {
  return fail(code, std::string(call) + ": " + ::fi_strerror(static_cast<int>(error < 0 ? -error : error)));
}

/// Calls that open something return 0 or a negative error and set a raw pointer.
template <class Object, class Open>
result<void> open_into(fabric_handle<Object>& handle, const char* call, Open open) {
  Object* opened = nullptr;
  if (const int error = open(&opened); error != 0)
    return failed(fault::config_invalid, call, error);
  handle.reset(opened);
  return {};
}

result<socket_address> name_of(fid* listening) {
  std::array<std::byte, sizeof(sockaddr_storage)> name{};
  std::size_t size = name.size();
  if (const int error = ::fi_getname(listening, name.data(), &size); error != 0)
    return failed(fault::config_invalid, "fi_getname", error);
  return network_address(std::span{name}.first(std::min(size, name.size())));
}

} // namespace

fabric_session::info_handle fabric_session::hints(const std::string& provider, const std::string& interface) {
  info_handle wanted{::fi_allocinfo()};
  wanted->caps = FI_RMA | FI_WRITE | FI_REMOTE_WRITE;
  wanted->mode = FI_CONTEXT | FI_CONTEXT2;
  wanted->ep_attr->type = FI_EP_MSG;
  wanted->tx_attr->op_flags = FI_DELIVERY_COMPLETE | FI_COMPLETION;
  // What we can cope with. All bits (~0) would say that we want what no provider gives.
  wanted->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
  wanted->domain_attr->threading = FI_THREAD_DOMAIN;
  wanted->domain_attr->resource_mgmt = FI_RM_ENABLED;
  wanted->fabric_attr->prov_name = ::strdup(provider.c_str()); // fi_freeinfo frees both
  if (!interface.empty())
    wanted->domain_attr->name = ::strdup(interface.c_str());
  return wanted;
}

std::string fabric_session::what_there_is() {
  fi_info* first = nullptr;
  if (::fi_getinfo(api_version, nullptr, nullptr, 0, nullptr, &first) != 0)
    return "none";
  const info_handle all{first};
  std::set<std::string> names;
  for (const fi_info* it = first; it != nullptr; it = it->next)
    if (it->ep_attr->type == FI_EP_MSG)
      names.insert(std::string(it->fabric_attr->prov_name) + " on " + it->domain_attr->name);
  std::string list;
  for (const auto& name : names)
    list += (list.empty() ? "" : ", ") + name;
  return list;
}

result<std::unique_ptr<fabric_session>> fabric_session::open(const std::string& provider,
                                                             const std::string& interface) {
  if (!interface.empty())
    ::setenv("FI_TCP_IFACE", interface.c_str(), 1);
  fi_info* found = nullptr;
  if (const int error = ::fi_getinfo(api_version, nullptr, nullptr, 0, hints(provider, interface).get(), &found);
      error != 0)
    return fail(fault::config_invalid, "provider '" + provider + "' on interface '" + interface +
                                           "': " + ::fi_strerror(-error) + "; there are: " + what_there_is());
  std::unique_ptr<fabric_session> made{new fabric_session{info_handle{found}}};
  if (found->domain_attr->cq_data_size < sizeof(std::uint64_t))
    return fail(fault::config_invalid, "provider '" + provider + "' carries " +
                                           std::to_string(found->domain_attr->cq_data_size) +
                                           " bytes of completion data, not 8");
  if (auto opened = made->open_all(); !opened)
    return tl::unexpected{std::move(opened.error())};
  return made;
}

result<void> fabric_session::open_all() {
  fi_eq_attr event_attributes{};
  event_attributes.wait_obj = FI_WAIT_NONE;
  fi_cq_attr completion_attributes{};
  completion_attributes.format = FI_CQ_FORMAT_DATA;
  completion_attributes.wait_obj = FI_WAIT_FD;
  completion_attributes.size = info_->tx_attr->size + info_->rx_attr->size;

  return open_into(fabric_, "fi_fabric", [&](fid_fabric** at) { return ::fi_fabric(info_->fabric_attr, at, nullptr); })
      .and_then([&] {
        return open_into(events_, "fi_eq_open",
                         [&](fid_eq** at) { return ::fi_eq_open(fabric_.get(), &event_attributes, at, nullptr); });
      })
      .and_then([&] {
        return open_into(domain_, "fi_domain",
                         [&](fid_domain** at) { return ::fi_domain(fabric_.get(), info_.get(), at, nullptr); });
      })
      .and_then([&] {
        return open_into(completions_, "fi_cq_open",
                         [&](fid_cq** at) { return ::fi_cq_open(domain_.get(), &completion_attributes, at, nullptr); });
      })
      .and_then([&]() -> result<void> {
        if (const int error = ::fi_control(&completions_->fid, FI_GETWAIT, &wait_file_); error != 0)
          return failed(fault::config_invalid, "fi_control(FI_GETWAIT)", error);
        return listen();
      });
}

result<void> fabric_session::listen() {
  if (auto opened = open_into(listening_, "fi_passive_ep",
                              [&](fid_pep** at) { return ::fi_passive_ep(fabric_.get(), info_.get(), at, nullptr); });
      !opened)
    return opened;
  if (const int error = ::fi_pep_bind(listening_.get(), &events_->fid, 0); error != 0)
    return failed(fault::config_invalid, "fi_pep_bind", error);
  if (auto named = name_of(&listening_->fid); named)
    address_ = *std::move(named);
  else
    return tl::unexpected{std::move(named.error())};
  if (std::string_view{info_->fabric_attr->prov_name} == "tcp") { // before it listens: nobody slips in
    auto closed = port_filter::close_port(address_);
    if (!closed)
      return tl::unexpected{std::move(closed.error())};
    filter_ = *closed;
  }
  if (const int error = ::fi_listen(listening_.get()); error != 0)
    return failed(fault::config_invalid, "fi_listen", error);
  return {};
}

result<void> fabric_session::admit(std::span<const socket_address> sources) const {
  return filter_ ? filter_->admit(sources) : result<void>{};
}

result<fabric_connection> fabric_session::open_connection(fi_info& info) {
  fabric_connection made;
  if (auto opened =
          open_into(made, "fi_endpoint", [&](fid_ep** at) { return ::fi_endpoint(domain_.get(), &info, at, nullptr); });
      !opened)
    return fail(fault::transfer_failed, opened.error().what);
  if (const int error = ::fi_ep_bind(made.get(), &events_->fid, 0); error != 0)
    return failed(fault::transfer_failed, "fi_ep_bind of the events", error);
  if (const int error = ::fi_ep_bind(made.get(), &completions_->fid, FI_TRANSMIT | FI_RECV); error != 0)
    return failed(fault::transfer_failed, "fi_ep_bind of the completions", error);
  if (const int error = ::fi_enable(made.get()); error != 0)
    return failed(fault::transfer_failed, "fi_enable", error);
  return made;
}

result<fabric_connection> fabric_session::connect(const socket_address& from, const socket_address& to,
                                                  std::span<const std::byte> says) {
  info_handle here{::fi_dupinfo(info_.get())};
  if (!here)
    return fail(fault::no_memory, "fi_dupinfo");
  std::free(here->src_addr);
  here->src_addr = std::malloc(from.size); // fi_freeinfo frees it
  if (here->src_addr == nullptr)
    return fail(fault::no_memory, "the address of an endpoint");
  std::memcpy(here->src_addr, from.get(), from.size);
  here->src_addrlen = from.size;
  auto made = open_connection(*here);
  if (!made)
    return made;
  if (const int error = ::fi_connect(made->get(), to.get(), says.data(), says.size()); error != 0)
    return failed(fault::transfer_failed, "fi_connect", error);
  return made;
}

std::optional<fabric_session::event> fabric_session::next_event() {
  alignas(fi_eq_cm_entry) std::array<std::byte, sizeof(fi_eq_cm_entry) + said_bytes_max> bytes{};
  std::uint32_t what = 0;
  const ssize_t size = ::fi_eq_read(events_.get(), &what, bytes.data(), bytes.size(), 0);
  if (size == -FI_EAVAIL)
    return failed_event();
  if (size < static_cast<ssize_t>(sizeof(fi_eq_cm_entry)))
    return std::nullopt;
  const auto& entry = *reinterpret_cast<const fi_eq_cm_entry*>(bytes.data());
  if (what == FI_CONNECTED)
    return event{.what = event::kind::connected, .of = entry.fid, .request = nullptr, .says = {}, .why = {}};
  if (what == FI_SHUTDOWN)
    return event{.what = event::kind::closed,
                 .of = entry.fid,
                 .request = nullptr,
                 .says = {},
                 .why = "the connection was closed"};
  if (what != FI_CONNREQ)
    return std::nullopt;
  const auto said = std::span{bytes}.first(static_cast<std::size_t>(size)).subspan(sizeof(fi_eq_cm_entry));
  return event{.what = event::kind::asked,
               .of = nullptr,
               .request = info_handle{entry.info},
               .says = {said.begin(), said.end()},
               .why = {}};
}

std::optional<fabric_session::event> fabric_session::failed_event() {
  fi_eq_err_entry error{};
  if (::fi_eq_readerr(events_.get(), &error, 0) < 0)
    return std::nullopt;
  return event{
      .what = event::kind::closed, .of = error.fid, .request = nullptr, .says = {}, .why = ::fi_strerror(error.err)};
}

result<fabric_connection> fabric_session::accept(const event& asked) {
  auto made = open_connection(*asked.request);
  if (!made) {
    reject(asked);
    return made;
  }
  if (const int error = ::fi_accept(made->get(), nullptr, 0); error != 0)
    return failed(fault::transfer_failed, "fi_accept", error); // the socket is the endpoint's, and closes with it
  return made;
}

void fabric_session::reject(const event& asked) noexcept {
  ::fi_reject(listening_.get(), asked.request->handle, nullptr, 0);
}

result<fabric_registration> fabric_session::register_memory(std::span<std::byte> bytes) {
  fabric_registration made;
  // A key that cannot be guessed is the only thing that keeps a stranger on this network from writing here.
  std::uint64_t key = 0;
  if ((info_->domain_attr->mr_mode & FI_MR_PROV_KEY) == 0) {
    base::fill_random(std::as_writable_bytes(std::span{&key, 1}));
    if (const auto size = info_->domain_attr->mr_key_size; size < sizeof key)
      key &= (std::uint64_t{1} << (8 * size)) - 1;
  }
  fid_mr* handle = nullptr;
  if (const int error = ::fi_mr_reg(domain_.get(), bytes.data(), bytes.size(), FI_WRITE | FI_REMOTE_WRITE, 0, key, 0,
                                    &handle, nullptr);
      error != 0)
    return failed(fault::transfer_failed, "fi_mr_reg", error);
  made.handle.reset(handle);
  made.key = ::fi_mr_key(handle);
  if ((info_->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0)
    made.base = reinterpret_cast<std::uintptr_t>(bytes.data());
  return made;
}

ssize_t fabric_session::post(const write& wanted) noexcept {
  iovec from{const_cast<std::byte*>(wanted.from), wanted.bytes};
  fi_rma_iov to{.addr = wanted.remote_address, .len = wanted.bytes, .key = wanted.key};
  void* descriptor = wanted.descriptor;
  fi_msg_rma message{};
  message.msg_iov = &from;
  message.desc = &descriptor;
  message.iov_count = 1;
  message.rma_iov = &to;
  message.rma_iov_count = 1;
  message.context = wanted.context;
  std::uint64_t flags = FI_DELIVERY_COMPLETE | FI_COMPLETION;
  if (wanted.completion_data != nullptr) {
    message.data = *wanted.completion_data;
    flags |= FI_REMOTE_CQ_DATA;
  }
  return ::fi_writemsg(wanted.over, &message, flags);
}

result<bool> fabric_session::poll(completion& into) {
  fi_cq_data_entry entry{};
  const ssize_t count = ::fi_cq_read(completions_.get(), &entry, 1);
  if (count == 1) {
    const bool arrived = (entry.flags & FI_REMOTE_CQ_DATA) != 0;
    into = {.context = arrived ? nullptr : entry.op_context, .arrived = arrived, .data = entry.data, .what = {}};
    return true;
  }
  if (count == -FI_EAGAIN || count == 0)
    return false;
  if (count != -FI_EAVAIL)
    return failed(fault::transfer_failed, "fi_cq_read", count);
  fi_cq_err_entry error{};
  if (::fi_cq_readerr(completions_.get(), &error, 0) != 1)
    return false;
  into = {.context = error.op_context, .error = error.err == 0 ? FI_EIO : error.err, .what = {}};
  into.what = std::string(::fi_strerror(error.err)) + " (" +
              ::fi_cq_strerror(completions_.get(), error.prov_errno, error.err_data, nullptr, 0) + ")";
  return true;
}

bool fabric_session::may_sleep() noexcept {
  fid* waited[] = {&completions_->fid};
  return ::fi_trywait(fabric_.get(), waited, 1) == FI_SUCCESS;
}

} // namespace troupe::fabric
